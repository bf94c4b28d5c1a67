"""A new model that begins where an earlier one of its kind ended, in a feature space that has grown.

    embedding rows   by field and value; a value that is new begins with the row of the unknown, where the champion looked it up
    positions        by number; deeper ones begin with the effect of the deepest the champion knew
    dense weights    as they are, where the shape is the same: a field more widens the first layers, and these begin afresh
    bias             shifted by the change of the training prior (negatives kept, weight of a click)
    row state        Adagrad's sums (or what another optimizer keeps per row) go on, and begin anew for new values: forgotten, they let the first batches throw well-known rows about
    Adam's state     begins anew: with the sums carried on, carrying it too made no difference (docs/benchmarks.md)

With no field added the new model answers as the champion does until its first step (DIN, which asks whether an item is the candidate
itself, does so for the values the champion knew).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.errors import UsageError
from clickmill.features import FeatureSpace
from clickmill.features.growth import Origins, origins
from clickmill.models import ModelConfig
from clickmill.models.embedding import FusedEmbedding
from clickmill.models.examination import Examination
from clickmill.models.logit import BIAS, EXAMINATION, PositionBias

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from clickmill.training.config import TrainingConfig
    from clickmill.training.trained import TrainedModel


@dataclass(frozen=True)
class Inheritance:
    """What a model took over."""

    rows_kept: int
    """Rows of the table for values the champion knew, padding included."""
    rows_new: int
    """Rows for values it did not know."""
    weights_fresh: tuple[str, ...]
    """Paths of the dense weights whose shape has changed; they begin as drawn."""

    @property
    def message(self) -> str:
        """In one sentence."""
        fresh = (
            f"; {len(self.weights_fresh)} dense weights of another shape begin afresh"
            if self.weights_fresh
            else ""
        )
        return (
            f"starts from the champion: {self.rows_kept:,} embedding rows kept, {self.rows_new:,} new{fresh}"
        )


def refuse_another_kind(model: str, config: ModelConfig, start: TrainedModel) -> None:
    """Raises UsageError when the champion's weights belong to another model or to other hyperparameters."""
    if start.name != model:
        raise UsageError(f"a {model} can't start from a {start.name}: their weights have nothing in common")
    wanted, given = config.model_dump(mode="json"), start.meta["model_config"]
    for key in sorted({*wanted, *given}):
        if wanted.get(key) != given.get(key):
            raise UsageError(
                f"model setting {key}={wanted.get(key)!r}: the champion was trained with {given.get(key)!r}, and its weights fit no "
                "other; give the champion's setting, or train from scratch (no warm start)"
            )


def inherit(model: keras.Model, space: FeatureSpace, start: TrainedModel, *, log_prior: float) -> Inheritance:
    """Give `model`, freshly built over `space` (which `features.growth.grown` made), the weights of `start`.

    log_prior: how far the log-odds of the new training rows are above those of traffic, ln w+ - ln(negatives kept).
    """
    came_from = origins(space, start.space)
    tables = {id(layer.table) for layer in model.layers if isinstance(layer, FusedEmbedding)}
    by_position = {id(weight) for layer in model.layers for weight in _of_positions(layer)}
    shares = {id(layer.share) for layer in model.layers if getattr(layer, "average", False)}
    fresh = []
    # Variables of one model and configuration correspond one by one; names need not: Keras numbers layers per process.
    for ours, theirs in zip(model.variables, start.keras_model.variables, strict=True):
        if "float" not in ours.dtype or id(ours) in shares:
            continue  # the state of dropout's generator belongs to the run's seed, the shares of the slots to its data
        value = np.asarray(theirs)
        if id(ours) in tables:
            ours.assign(_rows(np.asarray(ours), value, came_from))
        elif id(ours) in by_position:
            ours.assign(_deeper(value, int(ours.shape[0])))
        elif ours.shape == theirs.shape:
            ours.assign(value)
        else:
            fresh.append(ours.path)
    _shift_prior(model, start, log_prior)
    return Inheritance(int((~came_from.new).sum()), int(came_from.new.sum()), tuple(fresh))


def inherit_row_state(
    row_state: Sequence[tf.Variable], space: FeatureSpace, start: TrainedModel, config: TrainingConfig
) -> None:
    """Go on with what the champion's optimizers knew of each row; rows of new values are left as they begin, and all of them where
    `config` names other optimizers than the champion had, or the champion tells nothing of its own."""
    had = start.meta["training_config"]
    if not start.row_state or any(
        had.get(kind) != getattr(config, kind) for kind in ("embedding_optimizer", "linear_optimizer")
    ):
        return
    came_from = origins(space, start.space)
    kept = ~came_from.new
    for ours, theirs in zip(row_state, start.row_state, strict=True):
        value = ours.numpy()
        value[kept] = theirs[came_from.rows[kept]]
        ours.assign(value)


def log_prior_of(meta: Mapping[str, Any]) -> float:
    """How far the log-odds of a trained model's rows were above those of traffic: ln w+ - ln(negatives kept)."""
    return math.log(meta["positive_weight"]) - math.log(meta["negatives_kept"])


def _rows(drawn: np.ndarray, champion: np.ndarray, came_from: Origins) -> np.ndarray:
    """(rows, width): the champion's rows where there are origins, and as drawn where a field is new."""
    return np.where(came_from.rows[:, None] >= 0, champion[came_from.rows], drawn)


def _of_positions(layer: keras.layers.Layer) -> list[keras.Variable]:
    if not isinstance(layer, PositionBias | Examination):
        return []
    effect = layer.shift if isinstance(layer, PositionBias) else layer.theta
    return [effect, *([layer.share] if layer.average else [])]


def _deeper(effect: np.ndarray, positions: int) -> np.ndarray:
    """Deeper positions shared the effect of the deepest one, and begin with it; zero where none was known."""
    return np.pad(effect, (0, positions - len(effect)), mode="edge" if len(effect) else "constant")


def _shift_prior(model: keras.Model, start: TrainedModel, log_prior: float) -> None:
    """The bias of an examination product is true of traffic and stays; the product's own prior is told anew."""
    examinations = [layer for layer in model.layers if layer.name == EXAMINATION]
    for layer in examinations:
        layer.prior.assign(log_prior)
    if not examinations:
        bias = model.get_layer(BIAS).value
        bias.assign(float(bias.numpy()) + log_prior - log_prior_of(start.meta))
