"""A promoted bundle into the model store."""

from components.on_demand import component_of

__all__ = ["deploy"]
__getattr__ = component_of(__name__)
