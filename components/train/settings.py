"""From the pipeline's parameters to the typed settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickmill.training import TrainingConfig
from components.typed_settings import restored, typed_settings


def settings(given: Mapping[str, Any], *, positive_weight: float, seed: int) -> TrainingConfig:
    """`given` with the weight of a click and the seed. Raises UsageError that names every wrong key."""
    return typed_settings(
        "training", TrainingConfig, given, {"positive_weight": positive_weight, "seed": seed}
    )


def model_config(given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The hyperparameters of one model; its defaults stand for what is absent."""
    chosen: dict[str, Any] = restored(given.get(model, {}))
    return chosen
