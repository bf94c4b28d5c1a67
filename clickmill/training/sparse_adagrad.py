"""Adagrad that reads and writes only the rows a batch touches.

    A_r <- A_r + g_r^2,    w_r <- w_r - lr g_r / (sqrt(A_r) + eps)      for each row r of the batch, element by element

Duchi, Hazan, Singer, "Adaptive Subgradient Methods", JMLR 2011 (diagonal form). A dense optimizer sweeps the whole table each
step, which costs more than the model itself; this one's cost does not depend on the table's size.
"""

from __future__ import annotations

import tensorflow as tf

INITIAL_ACCUMULATOR = 0.1
"""TensorFlow's own default. At zero the first step of each row would be a full learning rate in every direction."""
_EPSILON = 1e-7


class SparseAdagrad(tf.Module):
    """Adagrad over one embedding table (rows, width)."""

    def __init__(self, table: tf.Variable, learning_rate: float, l2: float) -> None:
        super().__init__(name="sparse_adagrad")
        self._table = table
        self.learning_rate = learning_rate
        self.l2 = l2
        self.accumulator = tf.Variable(
            tf.fill(table.shape, INITIAL_ACCUMULATOR), trainable=False, name="accumulator"
        )

    def apply(self, gradient: tf.IndexedSlices) -> None:
        """One step. The gradient may name a row many times; each row is updated once, with the sum."""
        rows, place = tf.unique(gradient.indices)
        summed = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
        if self.l2:
            summed += self.l2 * tf.gather(self._table, rows)
        tf.raw_ops.ResourceSparseApplyAdagradV2(
            var=self._table.handle,
            accum=self.accumulator.handle,
            lr=self.learning_rate,
            epsilon=_EPSILON,
            grad=summed,
            indices=rows,
            use_locking=True,
        )
