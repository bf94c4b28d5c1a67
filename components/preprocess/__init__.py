"""Join, split by time, sample, and learn the feature space."""

from components.on_demand import component_of

__all__ = ["preprocess"]
__getattr__ = component_of(__name__)
