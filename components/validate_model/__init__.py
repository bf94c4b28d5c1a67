"""The best model before the gate."""

from components.on_demand import component_of

__all__ = ["validate_model"]
__getattr__ = component_of(__name__)
