"""Activations that learn their slope below zero, or where zero is, over histories of any length."""

from __future__ import annotations

import keras
import tensorflow as tf

from clickmill.models.replicas import summed


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

    Zhou et al., KDD 2018, section 5.2. While training, mean and variance are those of the batch, all replicas' parts of it, over items
    that are `there` (bool (b, L)), so padding cannot shift them; afterwards the running averages.
    """

    # 0.99, Keras' default for such averages, would still hold a third of its initial values after 100 steps.
    momentum = 0.95

    def build(self, s_shape: tuple[int | None, ...], there_shape: object = None) -> None:
        units = (s_shape[-1],)
        self.alpha = self.add_weight(shape=units, initializer="zeros", name="alpha")
        self.mean = self.add_weight(shape=units, initializer="zeros", trainable=False, name="mean")
        self.variance = self.add_weight(shape=units, initializer="ones", trainable=False, name="variance")

    def call(self, s: tf.Tensor, there: tf.Tensor, training: bool = False) -> tf.Tensor:
        mean, variance = self._batch_moments(s, there) if training else (self.mean, self.variance)
        p = tf.sigmoid((s - mean) * tf.math.rsqrt(variance + 1e-8))
        return p * s + (1.0 - p) * self.alpha * s

    def _batch_moments(self, s: tf.Tensor, there: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shown = tf.cast(there, s.dtype)[..., tf.newaxis]
        count, total = summed([tf.reduce_sum(shown), tf.reduce_sum(shown * s, axis=(0, 1))])
        mean = tf.math.divide_no_nan(total, count)
        (squares,) = summed([tf.reduce_sum(shown * tf.square(s - mean), axis=(0, 1))])
        variance = tf.math.divide_no_nan(squares, count)
        for running, now in ((self.mean, mean), (self.variance, variance)):
            running.assign(self.momentum * running + (1.0 - self.momentum) * now)
        return mean, variance

    def compute_output_shape(
        self, s_shape: tuple[int | None, ...], there_shape: object = None
    ) -> tuple[int | None, ...]:
        return s_shape
