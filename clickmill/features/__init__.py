"""Features: what the train split teaches, rows to tensors, and the one encoder of training and serving.

Imports `clickmill.data`, `clickmill.contract` and `clickmill.errors`. TensorFlow is loaded only when `Encoder` is asked for.
"""

from typing import TYPE_CHECKING, Any

from clickmill.features import tensors
from clickmill.features.learn import fit
from clickmill.features.space import FeatureSpace, ListSlot, Moments, Slot

if TYPE_CHECKING:
    from clickmill.features.encoder import Encoder

__all__ = ["Encoder", "FeatureSpace", "ListSlot", "Moments", "Slot", "fit", "tensors"]


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        from clickmill.features.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
