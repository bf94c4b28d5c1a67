"""Activations that learn their slope below zero, or where zero is, over histories of any length."""

from __future__ import annotations

import keras
import tensorflow as tf


class ParametricRelu(keras.layers.Layer):
    """f(s) = s for s > 0, else alpha s, a learned alpha per unit, zero at first: (b, L, u) to (b, L, u).

    He et al., ICCV 2015; the activation of DIN's units (Zhou et al., KDD 2018, section 5.2). `there` is not needed.
    """

    def build(self, s_shape: tuple[int | None, ...], there_shape: object = None) -> None:
        self.alpha = self.add_weight(shape=(s_shape[-1],), initializer="zeros", name="alpha")

    def call(self, s: tf.Tensor, there: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.maximum(s, 0.0) + self.alpha * tf.minimum(s, 0.0)

    def compute_output_shape(
        self, s_shape: tuple[int | None, ...], there_shape: object = None
    ) -> tuple[int | None, ...]:
        return s_shape


class Dice(keras.layers.Layer):
    """f(s) = p s + (1 - p) alpha s,  p = sigmoid((s - E[s]) / sqrt(Var[s] + 1e-8)): (b, L, u) to (b, L, u).

    Zhou et al., KDD 2018, section 5.2. While training, mean and variance are those of the batch over items that are `there` (bool
    (b, L)), so padding cannot shift them; afterwards the running averages.
    """

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name)
        # 0.99, Keras' default, would still hold a third of its initial values after 100 steps.
        self.moments = keras.layers.BatchNormalization(
            momentum=0.95, epsilon=1e-8, center=False, scale=False, name="moments"
        )

    def build(self, s_shape: tuple[int | None, ...], there_shape: object = None) -> None:
        self.alpha = self.add_weight(shape=(s_shape[-1],), initializer="zeros", name="alpha")
        self.moments.build(s_shape)

    def call(self, s: tf.Tensor, there: tf.Tensor, training: bool = False) -> tf.Tensor:
        p = tf.sigmoid(self.moments(s, training=training, mask=there))
        return p * s + (1.0 - p) * self.alpha * s

    def compute_output_shape(
        self, s_shape: tuple[int | None, ...], there_shape: object = None
    ) -> tuple[int | None, ...]:
        return s_shape
