"""Every row against the contract; the bad ones to quarantine."""

from components.on_demand import component_of

__all__ = ["validate_data"]
__getattr__ = component_of(__name__)
