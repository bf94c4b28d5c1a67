"""What optimizers of embedding rows share: they read and write only the rows that a batch touches.

A dense optimizer sweeps the whole table each step, which costs more than the model itself; these cost the same however many rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf


class RowOptimizer(Protocol):
    """An optimizer of one embedding table (rows, width)."""

    @property
    def state(self) -> list[tf.Variable]:
        """What it remembers of the rows, in a fixed order; a checkpoint keeps it."""
        ...

    def apply(self, rows: tf.Tensor, values: tf.Tensor, gradient: tf.Tensor, examples: tf.Tensor) -> None:
        """One step on `rows` (n,) int32, all different, whose `values` (n, width) were read before; `gradient` (n, width) is that
        of the mean loss over so many `examples` (float32 scalar)."""
        ...


def overwrite(variable: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
    """Write `values` (n, ...) over `rows` (n,) int32, all different.

    Reading rows, computing on them side by side and writing them back takes a third of the time of TensorFlow's ResourceSparseApply
    operations, which go from row to row (docs/benchmarks.md).
    """
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)


def summed(gradient: tf.Tensor, examples: tf.Tensor, values: tf.Tensor, l2: float) -> tf.Tensor:
    """The gradient (n, width) of the SUM of the batch's losses, with the pull of l2 towards zero.

    In these units a click moves a bias by about 1, whatever the size of the batch.
    """
    total = gradient * examples
    return total + l2 * values if l2 else total


def by_row(places: Sequence[tf.Tensor], order: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
    """Gradients (..., width) of the places that name rows, added up by row: (n, width), in the order of `distinct`.

    With places sorted (`training.distinct`) this is one run through memory; the gradient that tf.gather has of its own
    (UnsortedSegmentSum) jumps about, and takes three times as long.
    """
    flat = tf.concat([tf.reshape(part, [-1, part.shape[-1]]) for part in places], axis=0)
    return tf.math.segment_sum(tf.gather(flat, order), segments)
