"""The `experiment` step."""

from components.on_demand import component_of

__all__ = ["experiment"]
__getattr__ = component_of(__name__)
