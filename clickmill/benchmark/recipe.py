"""How each model is trained on a benchmark: the settings as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clickmill.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of one model."""

    model: Mapping[str, Any]
    """Hyperparameters, as the model's configuration takes them."""
    training: TrainingConfig


_DEEP = {"dim": 10, "units": (400, 400, 400), "dropout": 0.4}

RECIPES: dict[str, Recipe] = {
    "lr": Recipe({}, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
    "fm": Recipe({"dim": 10}, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
    "wide_deep": Recipe(_DEEP, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
    "dcn": Recipe(_DEEP, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
    "dcn_v2": Recipe(_DEEP, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
    "dlrm": Recipe(_DEEP, TrainingConfig(epochs=100, batch_size=1024, patience=3)),
}
"""By model, the simplest first."""
