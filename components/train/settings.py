"""From the pipeline's parameters to the typed settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from clickmill.errors import UsageError
from clickmill.training import TrainingConfig
from components.typed_settings import restored, typed_settings


def settings(given: Mapping[str, Any], *, positive_weight: float, seed: int) -> TrainingConfig:
    """`given` with the weight of a click and the seed. Raises UsageError that names every wrong key."""
    return typed_settings(
        "training", TrainingConfig, given, {"positive_weight": positive_weight, "seed": seed}
    )


class Variant(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One training configuration with a name of its own, beside or instead of a model's default one."""

    model: str
    """Name of the model: lr, fm, wide_deep, dcn_v2, ..."""
    model_config_: dict[str, Any] = Field(default={}, alias="model_config")
    """Hyperparameters; they go before those of `model_configs`."""
    training: dict[str, Any] = {}
    """Settings of the training run; they go before those of `training`."""


def configuration(
    name: str, variants: Mapping[str, Any], model_configs: Mapping[str, Any], training: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Model, hyperparameters and training settings of what `models` calls `name`: a variant, else a model with the common settings.

    Raises UsageError for a variant that is none.
    """
    if name not in variants:
        return name, model_config(model_configs, name), dict(training)
    given = restored(variants[name])
    try:
        variant = Variant.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f'variants.{name}: {".".join(map(str, first["loc"])) or "the value"}: {first["msg"]}; write {{"model": "dcn_v2", '
            '"model_config": {"dim": 32}, "training": {"l2": 10}}'
        ) from error
    chosen = {**model_config(model_configs, variant.model), **variant.model_config_}
    return variant.model, chosen, {**training, **variant.training}


def model_config(given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The hyperparameters of one model; its defaults stand for what is absent."""
    chosen: dict[str, Any] = restored(given.get(model, {}))
    return chosen
