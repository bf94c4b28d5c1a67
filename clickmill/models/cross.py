"""The cross layers of DCN (a vector each) and DCN-v2 (a matrix each)."""

from __future__ import annotations

import keras
import tensorflow as tf

from clickmill.models.precision import product
from clickmill.models.tower import Seeds


class VectorCross(keras.layers.Layer):
    """x_{l+1} = x_0 (x_l' w) + b + x_l: two inputs (b, d) to (b, d), 2 d weights.

    Wang et al., "Deep & Cross Network", ADKDD 2017, arXiv:1708.05123, eq. 3; x_0 x_l' w is computed as x_0 times a number.
    """

    def __init__(self, seeds: Seeds, *, name: str) -> None:
        super().__init__(name=name)
        self._initial = keras.initializers.GlorotNormal(seeds())

    def build(self, x0_shape: tuple[int | None, int], x_shape: object = None) -> None:
        width = x0_shape[1]
        self.kernel = self.add_weight(shape=(width, 1), initializer=self._initial, name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, x0: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return x0 * tf.matmul(x, self.kernel) + self.bias + x

    def compute_output_shape(
        self, x0_shape: tuple[int | None, int], x_shape: tuple[int | None, int]
    ) -> tuple[int | None, int]:
        return x_shape


class Cross(keras.layers.Layer):
    """x_{l+1} = x_0 * (W x_l + b) + x_l: two inputs (b, d) to (b, d). With `rank` r, W = U V' with U and V (d, r).

    Wang et al., "DCN V2", WWW 2021, arXiv:2008.13535, eq. 1 (full) and eq. 2 (low rank).
    """

    def __init__(self, rank: int | None, seeds: Seeds, *, name: str) -> None:
        super().__init__(name=name)
        self.rank = rank
        self._initial = [keras.initializers.GlorotNormal(seeds()) for _ in range(2)]

    def build(self, x0_shape: tuple[int | None, int], x_shape: object = None) -> None:
        width = x0_shape[1]
        if self.rank is None:
            self.kernel = self.add_weight(shape=(width, width), initializer=self._initial[0], name="kernel")
        else:
            self.v = self.add_weight(shape=(width, self.rank), initializer=self._initial[0], name="v")
            self.u = self.add_weight(shape=(self.rank, width), initializer=self._initial[1], name="u")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, x0: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        wx = product(x, self.kernel) if self.rank is None else product(product(x, self.v), self.u)
        return x0 * (wx + self.bias) + x

    def compute_output_shape(
        self, x0_shape: tuple[int | None, int], x_shape: tuple[int | None, int]
    ) -> tuple[int | None, int]:
        return x_shape
