"""Attention of a history over the candidate, blind to padding, and which candidate a history attends to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from clickmill.contract import Role
from clickmill.features import FeatureSpace
from clickmill.models.dice import Dice, ParametricRelu
from clickmill.models.tower import Seeds

HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""In items. The age of an item is told by these decays of it, which do not depend on how long a history may be."""


def candidate_slots(space: FeatureSpace) -> dict[str, int]:
    """For each list whose items share the rows of a slot, the place of that slot in `space.slots`: the candidate it attends to.

    Of several such slots an ad's comes first, then the owner of the rows, then the first of the contract.
    """
    found = {}
    for history in space.lists:
        ranked = sorted(
            (space.contract.fields[slot.name].role is not Role.AD, slot.name != slot.rows_of, place)
            for place, slot in enumerate(space.slots)
            if slot.rows_of == history.rows_of
        )
        if ranked:
            found[history.name] = ranked[0][2]
    return found


def masked_softmax(scores: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    """exp(s) / sum exp(s) over the items that are `there`: float32 and bool (..., L) to (..., L); all zero for an empty history."""
    scores = tf.where(there, scores, scores.dtype.min)
    weights = tf.where(there, tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True)), 0.0)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=-1, keepdims=True))


def age(there: tf.Tensor) -> tf.Tensor:
    """How many places before the last item each lies: bool (b, L) to float32 (b, L), 0 for the last and for padding."""
    places = tf.range(1, tf.shape(there)[1] + 1, dtype=tf.float32)
    last = tf.reduce_max(tf.where(there, places, 0.0), axis=1, keepdims=True)
    return tf.maximum(last - places, 0.0)


class OneOf(keras.layers.Layer):
    """One of several, by its place, from the end when negative: vectors (b, n, d) to (b, d), or numbers (b, n) to (b,)."""

    def __init__(self, place: int, *, name: str) -> None:
        super().__init__(name=name)
        self.place = place

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        return vectors[:, self.place]

    def compute_output_shape(self, vectors_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (vectors_shape[0], *vectors_shape[2:])


class LocalActivationUnit(keras.layers.Layer):
    """sum_j a_k(h_j, c) h_j over a history's items, for each head k: (b, heads, d).

        a(h, c) = V' mlp([h ; c ; h - c ; h * c [; decays of its age] [; is it c]]),    0 where rows are 0

    From history (b, L, d), candidate (b, d), and their rows, int32 (b, L) and (b,). Zhou et al., KDD 2018, eq. 3, is one head, without
    normalization unless `softmax`: the sum's length tells how strong the interest is. One history may meet many candidates: with
    history and rows (1, L, ...), candidates (n, d) and their rows (n,) the result is (n, heads, d), and what depends on the history alone
    is computed once.
    """

    broadcasts = True

    def __init__(
        self,
        units: Sequence[int],
        activation: Literal["prelu", "dice"],
        seeds: Seeds,
        *,
        heads: int,
        softmax: bool,
        recency: bool,
        identity: bool,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.units, self.heads, self.softmax = tuple(units), heads, softmax
        self.recency, self.identity = recency, identity
        self._initial = [keras.initializers.GlorotUniform(seeds()) for _ in range(len(units) + 1)]
        kind = Dice if activation == "dice" else ParametricRelu
        self.activations = [kind(name=f"{activation}_{i}") for i in range(len(units))]

    def build(
        self,
        history_shape: tuple[int | None, int, int],
        candidate_shape: object = None,
        rows_shape: object = None,
        candidate_row_shape: object = None,
    ) -> None:
        _, length, width = history_shape
        more = (len(HALF_LIVES) if self.recency else 0) + (1 if self.identity else 0)
        widths = [4 * width + more, *self.units, self.heads]
        self.kernels, self.biases = [], []
        for i, (below, above) in enumerate(itertools.pairwise(widths)):
            self.kernels.append(
                self.add_weight(shape=(below, above), initializer=self._initial[i], name=f"kernel_{i}")
            )
            self.biases.append(self.add_weight(shape=(above,), initializer="zeros", name=f"bias_{i}"))
        for activation, units in zip(self.activations, self.units, strict=True):
            activation.build((None, length, units))

    def call(
        self,
        history: tf.Tensor,
        candidate: tf.Tensor,
        rows: tf.Tensor,
        candidate_row: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        there = tf.not_equal(rows, 0)
        s = self._first(history, candidate, there)
        if self.identity:
            same = tf.cast(tf.equal(rows, candidate_row[:, None]), s.dtype)
            s += same[:, :, None] * self.kernels[0][-1]
        for i, activation in enumerate(self.activations, 1):
            s = tf.tensordot(activation(s, there, training=training), self.kernels[i], 1) + self.biases[i]
        weights = tf.transpose(s, [0, 2, 1])
        # An item that is not there has no say, whatever the unit makes of its zero vector.
        there = there[:, None, :]
        weights = masked_softmax(weights, there) if self.softmax else tf.where(there, weights, 0.0)
        return tf.matmul(weights, history)

    def _first(self, history: tf.Tensor, candidate: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
        """The first layer's sums (b, L, units[0]), its kernel by blocks: [h ; c ; h - c] K = h (K_h + K_d) + c (K_c - K_d)."""
        width = history.shape[-1]
        kernel = tf.convert_to_tensor(self.kernels[0])
        of_h, of_c, of_difference, of_product = (kernel[i * width : (i + 1) * width] for i in range(4))
        alone = tf.tensordot(history, of_h + of_difference, 1)
        if self.recency:
            decays = tf.pow(0.5, age(there)[:, :, None] / np.array(HALF_LIVES, np.float32))
            alone += tf.tensordot(decays, kernel[4 * width : 4 * width + len(HALF_LIVES)], 1)
        one = candidate[:, None, :]
        return (
            alone
            + tf.tensordot(one, of_c - of_difference, 1)
            + tf.tensordot(history * one, of_product, 1)
            + self.biases[0]
        )

    def compute_output_shape(
        self,
        history_shape: tuple[int | None, int, int],
        candidate_shape: tuple[int | None, int],
        rows_shape: object = None,
        candidate_row_shape: object = None,
    ) -> tuple[int | None, int, int]:
        return (candidate_shape[0], self.heads, candidate_shape[1])
