"""The endpoint: KServe runtime over a bundle, its client and traffic. May import `clickmill`, no other room.

`server` and `predictor` need kserve and TensorFlow and are imported by name; what is listed here is light.
"""

from serving.limits import Limits

__all__ = ["Limits"]
