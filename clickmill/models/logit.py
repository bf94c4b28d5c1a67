"""What every model ends with: the sum of its terms, a bias, and the effect of the position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from clickmill.features import FeatureSpace
from clickmill.models.config import ModelConfig
from clickmill.models.examination import Examination, slot_shares

BIAS = "bias"
"""Name of the layer with the global bias; the trainer starts it at the log-odds of the base rate."""
POSITION_BIAS = "position_bias"
"""Name of the layer with the additive effect of the position, in models that have one."""
EXAMINATION = "examination"
"""Name of the layer with the examination curve, in models that have one; the trainer tells it the prior of the sample."""


class Bias(keras.layers.Layer):
    """Adds one learned number, zero at first: (b,) to (b,)."""

    def build(self, input_shape: object = None) -> None:
        self.value = self.add_weight(shape=(), initializer="zeros", name="value")

    def call(self, logit: tf.Tensor) -> tf.Tensor:
        return logit + self.value


class PositionBias(keras.layers.Layer):
    """Adds g(position), one learned number per position, zero at first: logit (b,), position int32 (b,) to (b,).

    The position shifts the log-odds and meets no feature, so the order of ads within a request does not depend on where they
    were shown: logit = f(user, ad, context) + g(position). With `average`, position = `positions` asks for the mean over slots: of the
    odds, ln sum_k q(k) exp(g(k)), q the layer's `share`. Where clicks are rare that is the mean of the probabilities.
    """

    def __init__(self, positions: int, name: str, *, average: bool = False) -> None:
        super().__init__(name=name)
        self.positions, self.average = positions, average

    def build(self, logit_shape: object = None, position_shape: object = None) -> None:
        self.shift = self.add_weight(shape=(self.positions,), initializer="zeros", name="shift")
        if self.average:
            self.share = slot_shares(self, self.positions)

    def call(self, logit: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        rows = tf.convert_to_tensor(self.shift)
        if self.average:
            mean = tf.reduce_logsumexp(rows + tf.math.log(self.share))
            rows = tf.concat([rows, [mean]], axis=0)
        # One-hot product: its gradient is dense, and dense is what such a short table wants.
        return logit + tf.linalg.matvec(tf.one_hot(position, self.positions + self.average), rows)

    def compute_output_shape(
        self, logit_shape: tuple[int | None], position_shape: tuple[int | None]
    ) -> tuple[int | None]:
        return logit_shape


def click_logit(
    terms: Sequence[keras.KerasTensor],
    inputs: Mapping[str, keras.KerasTensor],
    space: FeatureSpace,
    config: ModelConfig,
) -> keras.KerasTensor:
    """Terms, each (b,) or (b, 1), to the logit, (b,) float32: f = sum(terms) + bias, then as `config.position` says, where the
    contract has a position: f + g(position), or logit(e(position) sigmoid(f))."""
    columns = [
        keras.layers.Reshape((), name=f"term_{i}")(term) if len(term.shape) == 2 else term
        for i, term in enumerate(terms)
    ]
    total = columns[0] if len(columns) == 1 else keras.layers.Add(name="terms")(columns)
    logit = Bias(name=BIAS)(total)
    if not space.positions:
        return logit
    if config.position == "examination":
        layer = Examination(space.positions, name=EXAMINATION, average=space.averages_position)
    else:
        layer = PositionBias(space.positions, name=POSITION_BIAS, average=space.averages_position)
    return layer(logit, inputs["position"])
