"""Live rows against the reference of the bundle that answered. Alone among the steps it may import `monitoring.drift`, whose shell it is."""

from components.on_demand import component_of

__all__ = ["monitor"]
__getattr__ = component_of(__name__)
