"""Training: the prepared train split to a trained model, sparse rows by Adagrad, stopped early by NE, resumable.

Imports `clickmill.models`, `clickmill.features`, `clickmill.evaluation` and what lies below. TensorFlow is loaded on first use.
"""

from clickmill.training.config import TrainingConfig
from clickmill.training.trained import TrainedModel
from clickmill.training.trainer import train

__all__ = ["TrainedModel", "TrainingConfig", "train"]
