"""FTRL-proximal, for linear weights that are to be zero unless the data insist.

    g_i     gradient of the batch's summed losses for coordinate i
    s_i   = (sqrt(n_i + g_i^2) - sqrt(n_i)) / alpha,    z_i <- z_i + g_i - s_i w_i,    n_i <- n_i + g_i^2
    w_i   = 0                                                                    where |z_i| <= l1
          = -(z_i - sgn(z_i) l1) / ((beta + sqrt(n_i)) / alpha + l2)             elsewhere

McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm 1; theirs takes one impression at a time, this one a
batch, and only the rows that it names. They work out w from z and n when they need it; here it is written to the table at once, so that the
exported model reads the exact zeros. `rate` multiplies alpha.
"""

from __future__ import annotations

import tensorflow as tf

from clickmill.training.rows import overwrite


class SparseFTRL(tf.Module):
    """FTRL-proximal over one table (rows, width), meant for the linear part's (width 1)."""

    def __init__(
        self, table: tf.Variable, alpha: float, beta: float, l1: float, l2: float, rate: tf.Variable
    ) -> None:
        super().__init__(name="sparse_ftrl")
        self._table, self._rate = table, rate
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        # Weights that a run starts from (a champion's) are those that z answers for.
        w = tf.convert_to_tensor(table)
        self.z = tf.Variable(-w * (beta / alpha + l2) - tf.sign(w) * l1, trainable=False, name="z")
        self.n = tf.Variable(tf.zeros(table.shape), trainable=False, name="n")

    @property
    def state(self) -> list[tf.Variable]:
        """z and n, (rows, width) each."""
        return [self.z, self.n]

    def apply(
        self,
        rows: tf.Tensor,
        values: tf.Tensor,
        gradient: tf.Tensor,
        examples: tf.Tensor,
        shares: tf.Tensor,
    ) -> None:
        """See `rows.RowOptimizer`; its prior is its own."""
        g = gradient * examples
        alpha = self.alpha * self._rate
        before = tf.gather(self.n, rows)
        after = before + tf.square(g)
        z = tf.gather(self.z, rows) + g - (tf.sqrt(after) - tf.sqrt(before)) / alpha * values
        overwrite(self.n, rows, after)
        overwrite(self.z, rows, z)
        shrunk = tf.sign(z) * tf.maximum(tf.abs(z) - self.l1, 0.0)
        overwrite(self._table, rows, -shrunk / ((self.beta + tf.sqrt(after)) / alpha + self.l2))
