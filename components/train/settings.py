"""From the pipeline's parameters to the typed settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from clickmill.errors import UsageError
from clickmill.training import TrainingConfig


def settings(given: Mapping[str, Any], *, positive_weight: float, seed: int) -> TrainingConfig:
    """`given` with the weight of a click and the seed, which the pipeline has as parameters of their own.

    Numbers of a pipeline's JSON come as floats; whole ones are taken as integers. Raises UsageError that names every wrong key.
    """
    doubled = {"positive_weight", "seed"} & set(given)
    if doubled:
        raise UsageError(
            f"training: {', '.join(sorted(doubled))} is a parameter of the pipeline itself; give it there"
        )
    try:
        return TrainingConfig(**given, positive_weight=positive_weight, seed=seed)
    except ValidationError as error:
        told = "\n".join(
            f"  training.{'.'.join(map(str, e['loc']))}: {e['msg']}; got {e['input']!r}"
            for e in error.errors()
        )
        raise UsageError(
            f"training: {error.error_count()} settings are wrong; known are {', '.join(TrainingConfig.model_fields)}\n{told}"
        ) from error
