"""Hyperparameters several models share, each with what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Units = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=16)]


class ModelConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Base of all model configurations."""

    position: Literal["additive", "examination"] = "additive"
    """How the slot enters, where the contract has one. `additive`: a learned shift of the log-odds per slot. `examination`: P(click) =
    P(seen | slot) P(click | seen), with slot 1 always seen; the better choice where clicks are frequent, since a slot then shifts the
    log-odds of good ads more than those of bad ones. At slot 1, which is what an ad server asks for, both answer f + a constant."""


@dataclass(frozen=True)
class RowDefaults:
    """How the rows of the embedding tables are trained where the training's settings leave it open."""

    l2: float = 30.0
    """`training.TrainingConfig.l2`. For models with layers between the vectors and the logit, which find their scale themselves. On the simulated
    market 10 to 100 are within 0.001 of NE of each other, and planted zipf data wants 30 or less (docs/benchmarks.md)."""
    embedding_learning_rate: float = 0.1
    """`training.TrainingConfig.embedding_learning_rate`."""


class EmbeddingConfig(ModelConfig):
    """Models that give each field a vector."""

    dim: int = Field(default=8, ge=1, le=1024)
    """Width of the embedding. Memory in training is 8 bytes times rows times this (weights and Adagrad's accumulators), and 4 bytes per row that count
    how often the train split names it."""
    deviation: float = Field(default=0.05, gt=0, le=1)
    """Standard deviation of the initial vectors. Small, so that an id nobody has clicked yet says little; not tiny, because a
    product of two vectors learns at a pace given by their lengths."""


class DeepConfig(EmbeddingConfig):
    """Models with a deep tower."""

    units: Units = (128, 64)
    """Widths of the tower's layers, from the input up."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of activations zeroed after each layer of the tower while training."""
    batch_norm: bool = False
    """Whether the tower normalizes each layer before its activation by the mean and deviation of the batch. A tower that does is blind to
    the scale of its inputs, so that a strong `l2` may shrink embeddings without silencing them: it belongs with `table_adam`."""
