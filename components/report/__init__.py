"""How the run ended, whatever happened."""

from components.on_demand import component_of

__all__ = ["report"]
__getattr__ = component_of(__name__)
