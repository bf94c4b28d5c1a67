"""How each model is trained on a benchmark: the settings as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clickmill.errors import UsageError
from clickmill.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of one model, whatever the number of rows."""

    model: Mapping[str, Any]
    """Hyperparameters, as the model's configuration takes them."""
    training: TrainingConfig
    """All settings but `l2`, `linear_l2` and `sparse_adam_learning_rate`; `batch_size` is the largest."""
    pull: float
    """Pull of every embedding towards zero, on the summed loss of the train split: pull / 2 times the squared length."""

    def config(self, rows: int, seed: int) -> TrainingConfig:
        """Settings for a train split of so many rows.

        The pull is a prior, and a prior does not grow with the data: on the mean loss it is pull / rows. The settings that BARS found by grid
        search on data sets of 0.2 and 1.4 million rows differ by just that: 0.05 times 202,027 rows and 0.01 times 1,404,801.
        """
        update = {
            "l2": self.pull,
            "linear_l2": self.pull,
            "sparse_adam_learning_rate": self.training.learning_rate,
            "seed": seed,
            # Small data in batches of thousands would be a step or two per epoch, and stopped before anything is learned.
            "batch_size": min(self.training.batch_size, max(128, rows // 12)),
        }
        return TrainingConfig.model_validate(self.training.model_dump() | update)


_SHALLOW = TrainingConfig(
    epochs=100,
    batch_size=1024,
    learning_rate=5e-3,
    embedding_optimizer="table_adam",
    linear_optimizer="table_adam",
    watch="auc",
    patience=3,
    rate_decay=0.3,
)
# Once the rates have fallen, AUC creeps up by a millionth an epoch for as long as one waits: hence a bound on the epochs.
_DEEP = _SHALLOW.model_copy(update={"batch_size": 4096, "learning_rate": 1e-3, "epochs": 40})
_TOWER = {"dim": 10, "deviation": 0.01, "units": (400, 400, 400), "dropout": 0.4, "batch_norm": True}

RECIPES: dict[str, Recipe] = {
    "lr": Recipe({}, _SHALLOW, pull=2.0),
    "fm": Recipe(
        {"dim": 10, "deviation": 0.05},
        _SHALLOW.model_copy(update={"patience": 5, "decay_patience": 1}),
        pull=2.0,
    ),
    "wide_deep": Recipe(_TOWER, _DEEP, pull=12_000.0),
    "dcn": Recipe(_TOWER, _DEEP, pull=12_000.0),
    "dcn_v2": Recipe(_TOWER, _DEEP, pull=12_000.0),
    "dlrm": Recipe(_TOWER, _DEEP, pull=12_000.0),
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
