"""The roofline in TensorFlow: the dense layers of DCN-v2 alone on embeddings that are ready, down to their gradient, and Adam."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
import train_data
import train_protocol


class _Cross(keras.layers.Layer):
    def build(self, x0_shape: tuple[int, int], x_shape: tuple[int, int]) -> None:
        self.dense = keras.layers.Dense(x0_shape[1])
        self.dense.build(x_shape)

    def call(self, x0: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return x0 * self.dense(x) + x


class TensorFlowTower:
    def __init__(self, rows: Mapping[str, np.ndarray], ids: int, variant: str) -> None:
        width = train_data.FIELDS * train_data.DIM + train_data.NUMERICS
        x0 = x = h = keras.Input((width,))
        for _ in range(train_data.CROSSES):
            x = _Cross()(x0, x)
        for units in train_data.UNITS:
            h = keras.layers.Dense(units, "relu")(h)
        logit = keras.layers.Dense(1)(keras.layers.Concatenate()([x, h]))
        model = keras.Model(x0, logit)
        adam = keras.optimizers.Adam(1e-3)
        adam.build(model.trainable_variables)
        features = tf.random.stateless_normal((train_data.BATCH, width), (0, 0))
        label = tf.constant(rows["label"][: train_data.BATCH, np.newaxis])

        @tf.function(jit_compile=variant == "xla")
        def step() -> tuple[tf.Tensor, tf.Tensor]:
            variables = [v.value for v in model.trainable_variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([features, *variables])
                losses = tf.nn.sigmoid_cross_entropy_with_logits(label, model(features, training=True))
                loss = tf.reduce_mean(losses)
            down, *gradients = tape.gradient(loss, [features, *variables])
            adam.apply(gradients, model.trainable_variables)
            return loss, down

        self._step = step

    def train(self, steps: int) -> None:
        for _ in range(steps):
            float(self._step()[0])

    def epoch(self) -> None:
        raise NotImplementedError("a roofline learns nothing")

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError("a roofline learns nothing")


if __name__ == "__main__":
    train_protocol.main(TensorFlowTower)
