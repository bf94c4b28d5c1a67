"""Layers of the factorization machine."""

from __future__ import annotations

import keras
import tensorflow as tf


class NumericVectors(keras.layers.Layer):
    """x_i v_i, a learned vector per numeric times its value: (b, n) to (b, n, width)."""

    def __init__(self, width: int, deviation: float, seed: int, *, name: str) -> None:
        super().__init__(name=name)
        self.width = width
        self._initial = keras.initializers.RandomNormal(stddev=deviation, seed=seed)

    def build(self, input_shape: tuple[int | None, int]) -> None:
        self.vectors = self.add_weight(
            shape=(input_shape[1], self.width), initializer=self._initial, name="vectors"
        )

    def call(self, values: tf.Tensor) -> tf.Tensor:
        return values[:, :, None] * self.vectors

    def compute_output_shape(self, input_shape: tuple[int | None, int]) -> tuple[int | None, int, int]:
        return (*input_shape, self.width)


class PairwiseSum(keras.layers.Layer):
    """sum_{i<j} <z_i, z_j> over the fields' vectors: (b, fields, k) to (b,), in O(fields * k) (Rendle 2010, lemma 3.1)."""

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        square_of_sum = tf.square(tf.reduce_sum(vectors, axis=1))
        sum_of_squares = tf.reduce_sum(tf.square(vectors), axis=1)
        return 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, int, int]) -> tuple[int | None]:
        return (input_shape[0],)
