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

    def apply(
        self,
        rows: tf.Tensor,
        values: tf.Tensor,
        gradient: tf.Tensor,
        examples: tf.Tensor,
        shares: tf.Tensor,
    ) -> None:
        """One step on `rows` (n,) int32, all different, whose `values` (n, width) were read before; `gradient` (n, width) is that
        of the mean loss over so many `examples` (float32 scalar). `shares` (n,) float32: `training.distinct.shares`."""
        ...


def overwrite(variable: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
    """Write `values` (n, ...) over `rows` (n,) int32, all different.

    Reading rows, computing on them side by side and writing them back takes a third of the time of TensorFlow's ResourceSparseApply
    operations, which go from row to row (docs/benchmarks.md).
    """
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)


def pulled(values: tf.Tensor, rate: tf.Tensor, l2: float, shares: tf.Tensor) -> tf.Tensor:
    """Values (n, width) after a pull towards zero: that of l2 / 2 times their squared length, of which this batch has the `shares` (n,).

        w <- w / (1 + rate l2 share),    rate (n, width): the learning rate that each weight has

    The shares are 1 / n for a row that n places of the train split name (Zhou et al., "Deep Interest Network", KDD 2018,
    arXiv:1706.06978, eq. 6), so that over an epoch a row feels l2 at most once: a prior, which clicks outweigh where there are many. A
    pull that is the same at each touch grows with the data instead. The step is implicit (proximal; Duchi, Singer, JMLR 2009): a row
    that is named once feels all of l2 at once, and a plain step of that length would throw it past zero.
    """
    return values / (1.0 + rate * l2 * shares[:, tf.newaxis]) if l2 else values


def by_row(places: Sequence[tf.Tensor], order: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
    """Gradients (..., width) of the places that name rows, added up by row: (n, width), in the order of `distinct`.

    With places sorted (`training.distinct`) this is one run through memory; the gradient that tf.gather has of its own
    (UnsortedSegmentSum) jumps about, and takes three times as long.
    """
    flat = tf.concat([tf.reshape(part, [-1, part.shape[-1]]) for part in places], axis=0)
    return tf.math.segment_sum(tf.gather(flat, order), segments)
