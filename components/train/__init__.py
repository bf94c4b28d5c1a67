"""One model, resumable."""

from components.on_demand import component_of

__all__ = ["train"]
__getattr__ = component_of(__name__)
