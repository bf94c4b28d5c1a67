"""What a sweep may try: a range or a list of choices per setting.

training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
training.l2: {low: 1.0, high: 1000.0, log: true}
model.dim: {choices: [8, 16, 32]}
model.units: {choices: [[128, 64], [256, 128]]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from clickmill.errors import UsageError
from clickmill.models import configure
from clickmill.models.config import DeepConfig, EmbeddingConfig
from clickmill.training import TrainingConfig

TOPICS = ("training", "model")


class Interval(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Numbers from low to high; whole ones when both ends are whole."""

    low: int | float
    """Least value."""
    high: int | float
    """Greatest value."""
    log: bool = False
    """Whether factors count and not differences: for rates and penalties, of which nobody knows the order of magnitude."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs a low above 0, got {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be legal for all to be."""
        return (self.low, self.high)


class Choice(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Any of these."""

    choices: tuple[Any, ...] = Field(min_length=1)
    """Values as YAML has them: numbers, words, lists."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be legal for all to be."""
        return self.choices


SearchSpace = Mapping[str, Interval | Choice]
"""Setting (`training.NAME` or `model.NAME`) to what may be tried."""
_SPACE: TypeAdapter[dict[str, Interval | Choice]] = TypeAdapter(dict[str, Interval | Choice])


def default_space(model: str) -> dict[str, Interval | Choice]:
    """What usually matters for a model: rates and pulls, width of the embedding, size of the tower. Raises UsageError for an unknown model."""
    config = type(configure(model))
    space: dict[str, Interval | Choice] = {
        "training.embedding_learning_rate": Interval(low=0.01, high=1.0, log=True),
        "training.linear_l2": Interval(low=0.01, high=100.0, log=True),
    }
    if issubclass(config, EmbeddingConfig):
        space["training.l2"] = Interval(low=1.0, high=10_000.0, log=True)
        space["model.dim"] = Choice(choices=(4, 8, 16, 32))
    if issubclass(config, DeepConfig):
        space["training.learning_rate"] = Interval(low=3e-4, high=1e-2, log=True)
        space["model.units"] = Choice(choices=((64, 32), (128, 64), (256, 128), (256, 128, 64)))
        space["model.dropout"] = Interval(low=0.0, high=0.5)
    return space


def load_space(path: Path, model: str) -> dict[str, Interval | Choice]:
    """Read a YAML file of settings. Raises UsageError naming the setting and what is wrong with it."""
    try:
        given = yaml.safe_load(path.read_text())
        space = _SPACE.validate_python(given or {})
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{path}: {first['loc'][0] if first['loc'] else 'the file'}: {first['msg']}; write {{low: 0.01, high: 1.0, log: true}} "
            "or {choices: [8, 16]}"
        ) from error
    if not space:
        raise UsageError(
            f"{path}: names no setting; write for example `training.l2: {{low: 1.0, high: 1000.0, log: true}}`"
        )
    refuse_wrong(space, model, str(path))
    return space


def refuse_wrong(space: SearchSpace, model: str, origin: str) -> None:
    """Raises UsageError for a setting there is not, or a value it may not have, before anything is trained."""
    fields = {
        "training": set(TrainingConfig.model_fields),
        "model": set(type(configure(model)).model_fields),
    }
    for name, dimension in space.items():
        topic, _, key = name.partition(".")
        if topic not in TOPICS or key not in fields[topic]:
            known = ", ".join(f"{t}.{k}" for t in TOPICS for k in sorted(fields[t]))
            raise UsageError(f"{origin}: no setting is called {name!r} for {model}; there are {known}")
        if name == "training.seed":
            raise UsageError(f"{origin}: the seed is no setting to search; the best of many seeds is luck")
        for value in dimension.ends:
            try:
                if topic == "training":
                    TrainingConfig.model_validate({key: value})
                else:
                    configure(model, {key: value})
            except (ValidationError, UsageError) as error:
                raise UsageError(f"{origin}: {name}: {value!r} is not legal: {error}") from error
