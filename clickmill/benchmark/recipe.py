"""How each model is trained on a benchmark: the settings as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clickmill.errors import UsageError
from clickmill.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of one model."""

    model: Mapping[str, Any]
    """Hyperparameters, as the model's configuration takes them."""
    training: TrainingConfig


_FALLING = TrainingConfig(epochs=100, batch_size=1024, l2=3.0, patience=2, rate_decay=0.1)
_DEEP = Recipe({"dim": 10, "units": (400, 400, 400), "dropout": 0.4}, _FALLING)

RECIPES: dict[str, Recipe] = {
    "lr": Recipe({}, _FALLING),
    "fm": Recipe({"dim": 10}, _FALLING),
    "wide_deep": _DEEP,
    "dcn": _DEEP,
    "dcn_v2": _DEEP,
    "dlrm": _DEEP,
}
"""By model, the simplest first."""


def recipes_for(models: Iterable[str]) -> dict[str, Recipe]:
    """The recipes of these models, in their order; raises UsageError for a model without one."""
    names = list(models)
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names:
        asked = f"no recipe for {unknown[0]!r}" if unknown else "no model to train"
        raise UsageError(f"the suite has {asked}; it has {', '.join(RECIPES)}")
    return {name: RECIPES[name] for name in names}
