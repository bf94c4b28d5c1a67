"""Adagrad that reads and writes only the rows a batch touches.

    A_r <- A_r + g_r^2,    w_r <- w_r - rate lr g_r / sqrt(A_r),    A_r = 1 at first      for each row r of the batch, element by element
    w_r <- w_r / (1 + rate lr l2 s_r / sqrt(A_r))                                         the prior (`rows.pulled`)

g_r is the gradient of the SUM of the batch's losses: in these units a click moves a bias by about 1, so the 1 that A starts with is
one click's worth of caution (the beta = 1 of McMahan et al., KDD 2013, section 3), and the learning rate does not depend on the
batch size. Duchi, Hazan, Singer, "Adaptive Subgradient Methods", JMLR 2011 (diagonal form).
"""

from __future__ import annotations

import tensorflow as tf

from clickmill.training.rows import overwrite, pulled

INITIAL_ACCUMULATOR = 1.0
"""At zero, the first step of each row would be a full learning rate in every direction, whatever the gradient."""


class SparseAdagrad(tf.Module):
    """Adagrad over one embedding table (rows, width). `rate` (scalar) multiplies the learning rate."""

    def __init__(self, table: tf.Variable, learning_rate: float, l2: float, rate: tf.Variable) -> None:
        super().__init__(name="sparse_adagrad")
        self._table = table
        self._rate = rate
        self.learning_rate = learning_rate
        self.l2 = l2
        self.accumulator = tf.Variable(
            tf.fill(table.shape, INITIAL_ACCUMULATOR), trainable=False, name="accumulator"
        )

    @property
    def state(self) -> list[tf.Variable]:
        """A (rows, width)."""
        return [self.accumulator]

    def apply(
        self,
        rows: tf.Tensor,
        values: tf.Tensor,
        gradient: tf.Tensor,
        examples: tf.Tensor,
        shares: tf.Tensor,
    ) -> None:
        """See `rows.RowOptimizer`."""
        g = gradient * examples
        accumulated = tf.gather(self.accumulator, rows) + tf.square(g)
        overwrite(self.accumulator, rows, accumulated)
        rate = self.learning_rate * self._rate * tf.math.rsqrt(accumulated)
        overwrite(self._table, rows, pulled(values - rate * g, rate, self.l2, shares))
