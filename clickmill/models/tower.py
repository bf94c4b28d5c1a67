"""The deep tower: a multilayer perceptron with dropout."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from clickmill.models.precision import product
from clickmill.models.replicas import Dropout


class Seeds:
    """An endless supply of different seeds drawn from one, so that a model's weights depend on nothing global."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self) -> int:
        return int(self._generator.integers(1, 2**31 - 1))


class Dense(keras.layers.Dense):
    """Keras' own, with its product in the precision that is in force: (..., n) to (..., units)."""

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.activation(product(x, self.kernel) + self.bias)


def mlp(
    x: keras.KerasTensor,
    units: Sequence[int],
    dropout: float,
    seeds: Seeds,
    *,
    batch_norm: bool = False,
    name: str = "deep",
) -> keras.KerasTensor:
    """a_{l+1} = dropout(relu(norm(W_l a_l + b_l))) for each width in `units`: (b, n) to (b, units[-1]); (b, n) when empty.

    norm is batch normalization (Ioffe, Szegedy, ICML 2015, arXiv:1502.03167) where asked for, else nothing.
    """
    for i, width in enumerate(units):
        x = Dense(
            width,
            activation=None if batch_norm else "relu",
            kernel_initializer=keras.initializers.HeNormal(seeds()),
            name=f"{name}_{i}",
        )(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm_{i}")(x)
            x = keras.layers.ReLU(name=f"{name}_relu_{i}")(x)
        if dropout:
            x = Dropout(dropout, seed=seeds(), name=f"{name}_dropout_{i}")(x)
    return x


def scalar(x: keras.KerasTensor, name: str, seeds: Seeds) -> keras.KerasTensor:
    """w'x: (b, n) to (b, 1), without bias (the model's one bias is in the logit)."""
    return keras.layers.Dense(
        1, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seeds()), name=name
    )(x)
