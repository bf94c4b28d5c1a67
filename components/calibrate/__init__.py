"""From scores to probabilities, and the bundle."""

from components.on_demand import component_of

__all__ = ["calibrate"]
__getattr__ = component_of(__name__)
