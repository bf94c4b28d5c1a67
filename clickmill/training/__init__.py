"""Training: the prepared train split to a trained model, sparse rows by Adagrad, stopped early by NE, resumable.

Imports `clickmill.models`, `clickmill.features`, `clickmill.evaluation` and what lies below. TensorFlow is loaded on first use.
"""

from typing import TYPE_CHECKING, Any

from clickmill.training.config import TrainingConfig

if TYPE_CHECKING:
    from clickmill.training.trained import TrainedModel
    from clickmill.training.trainer import train

__all__ = ["TrainedModel", "TrainingConfig", "train"]


def __getattr__(name: str) -> Any:
    # The settings are wanted where nobody trains: TensorFlow alone takes seconds to load.
    if name == "TrainedModel":
        from clickmill.training.trained import TrainedModel

        return TrainedModel
    if name == "train":
        from clickmill.training.trainer import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
