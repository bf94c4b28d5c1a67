"""What layers need to know when several replicas train one model (`tf.distribute`), each on its part of the batch.

A statistic of the batch is one of the whole batch only when summed over all of them, and noise should differ between them.
Alone, a sum is the value itself, and draws are Keras' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def replica() -> tf.distribute.ReplicaContext | None:
    """The replica that the code at hand runs on; None where there is but one."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def summed(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Each value's sum over all replicas, the same on each; any shapes, which must be equal everywhere. Differentiable."""
    context = replica()
    if context is None:
        return list(values)
    found: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return found


class ReplicaSeeds(keras.random.SeedGenerator):  # type: ignore[misc]
    """Seeds that differ between replicas, though its state, as all variables, is the same on each. The first draws as if alone."""

    def next(self, ordered: bool = True) -> Any:
        seed = super().next(ordered)
        context = replica()
        if context is None:
            return seed
        # An odd constant near 2^32 divided by the golden ratio keeps replicas apart in the 32 bits that samplers look at.
        number = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([number * 2_654_435_761, tf.zeros_like(number)])


class Dropout(keras.layers.Layer):
    """Keras' dropout with noise of its own on each replica: any shape to the same."""

    def __init__(self, rate: float, *, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.rate = rate
        self.seed_generator = ReplicaSeeds(seed)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape
