"""The examination product: a click is an ad that was looked at and then liked.

    p = e(k) sigmoid(f),    e(1) = 1,    e(k) = sigmoid(theta_k) for k = 2, 3, ...

Guo et al., "PAL: A Position-bias Aware Learning Framework for CTR Prediction in Live Recommender Systems", RecSys 2019, eq. 3 (there
both factors are towers; here P(seen) reads the position alone). A product fixes its factors up to a constant only, so slot 1 is taken as
always examined: f is then the log-odds of a click at the top, e(k) what slot k is worth beside it. e is at most 1: no slot beats the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

_MOST_SEEN = 1 - 1e-6


def slot_shares(layer: keras.layers.Layer, positions: int) -> keras.Variable:
    """q(k): (positions,) share of each slot in the traffic of the train split, not learned; alike until the trainer says."""
    return layer.add_weight(
        shape=(positions,),
        initializer=keras.initializers.Constant(1 / positions),
        trainable=False,
        name="share",
    )


class Examination(keras.layers.Layer):
    """logit(e(k) sigmoid(f)) + prior: f (b,) float32, position int32 (b,) 0-based, to (b,).

    With `average`, position = `positions` asks for the mean over slots: e = sum_k q(k) e(k), q the layer's `share`.

    With E = e^f the odds of the product are e E / (1 + (1 - e) E), whose logarithm is, without a difference of near equals,

        theta - softplus(softplus(theta) - f)

    The product holds for the odds of traffic, not for those of a training sample with other odds (non-clicks dropped, clicks weighted):
    `prior`, the logarithm of their ratio, is set by the trainer, is not learned, and is what the prior correction takes back.
    """

    def __init__(self, positions: int, name: str, *, average: bool = False) -> None:
        super().__init__(name=name)
        self.positions, self.average = positions, average

    def build(self, logit_shape: object = None, position_shape: object = None) -> None:
        # zero: e = 1/2 wherever the log says nothing else
        self.theta = self.add_weight(shape=(self.positions - 1,), initializer="zeros", name="theta")
        self.prior = self.add_weight(shape=(), initializer="zeros", trainable=False, name="prior")
        if self.average:
            self.share = slot_shares(self, self.positions)

    def call(self, logit: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        rows = tf.convert_to_tensor(self.theta)
        if self.average:
            seen = tf.clip_by_value(tf.tensordot(self.share, self.curve, 1), 1 - _MOST_SEEN, _MOST_SEEN)
            rows = tf.concat([rows, [tf.math.log(seen) - tf.math.log1p(-seen)]], axis=0)
        # One-hot product: its gradient is dense, and dense is what such a short table wants. Slot 1 is row -1: all zeros.
        theta = tf.linalg.matvec(tf.one_hot(position - 1, self.positions - 1 + self.average), rows)
        lower = theta - tf.nn.softplus(tf.nn.softplus(theta) - logit)
        return tf.where(position == 0, logit, lower) + self.prior

    def compute_output_shape(
        self, logit_shape: tuple[int | None], position_shape: tuple[int | None]
    ) -> tuple[int | None]:
        return logit_shape

    def hold(self, seen: Sequence[float]) -> None:
        """Set e(1), e(2), ... to a known curve (its first is taken as 1, none counts as more) and learn it no further."""
        below = np.clip(np.asarray(seen, np.float64)[1:], 1 - _MOST_SEEN, _MOST_SEEN)
        self.theta.assign(np.log(below / (1 - below)))
        self.theta.trainable = False

    @property
    def curve(self) -> tf.Tensor:
        """e(1), e(2), ...: (positions,) float32, the first 1."""
        return tf.concat([tf.ones([1]), tf.sigmoid(self.theta)], axis=0)
