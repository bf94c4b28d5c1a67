"""The cross layer of DCN-v2 as a mixture of low-rank experts."""

from __future__ import annotations

import keras
import tensorflow as tf

from clickmill.models.precision import product
from clickmill.models.tower import Seeds


class CrossMixture(keras.layers.Layer):
    """A gated sum of low-rank crosses: two inputs (b, d) to (b, d), with K experts of rank r.

        x_{l+1} = sum_i G_i(x_l) E_i(x_l) + x_l                               (eq. 3)
        E_i(x)  = x_0 * (U_i g(C_i g(V_i' x)) + b)                            (eq. 4)    V_i, U_i (d, r), C_i (r, r), g = tanh
        G(x)    = softmax(x' W)                                                          W (d, K)

    Wang et al., "DCN V2", WWW 2021, arXiv:2008.13535, section 3.3. The paper leaves g and the gate open ("sigmoid or softmax"); tanh
    and softmax are what its authors' code uses. b is shared by the experts, so the gate, which adds up to 1, leaves it alone.
    """

    def __init__(self, experts: int, rank: int, seeds: Seeds, *, name: str) -> None:
        super().__init__(name=name)
        self.experts, self.rank = experts, rank
        self._initial = [keras.initializers.GlorotNormal(seeds()) for _ in range(4)]

    def build(self, x0_shape: tuple[int | None, int], x_shape: object = None) -> None:
        width, k, r = x0_shape[1], self.experts, self.rank
        # The experts' matrices side by side: one product projects down for all of them, one up.
        self.v = self.add_weight(shape=(width, k * r), initializer=self._initial[0], name="v")
        self.c = self.add_weight(shape=(k, r, r), initializer=self._initial[1], name="c")
        self.u = self.add_weight(shape=(k * r, width), initializer=self._initial[2], name="u")
        self.gate = self.add_weight(shape=(width, k), initializer=self._initial[3], name="gate")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, x0: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        k, r = self.experts, self.rank
        low = tf.tanh(tf.reshape(product(x, self.v), [-1, k, r]))
        low = tf.tanh(tf.einsum("bkr,krs->bks", low, self.c))
        # The gate is a number per expert, so it may weigh the r inputs of U_i as well as its d outputs.
        gated = low * tf.nn.softmax(tf.matmul(x, self.gate))[:, :, None]
        return x0 * (product(tf.reshape(gated, [-1, k * r]), self.u) + self.bias) + x

    def compute_output_shape(
        self, x0_shape: tuple[int | None, int], x_shape: tuple[int | None, int]
    ) -> tuple[int | None, int]:
        return x_shape
