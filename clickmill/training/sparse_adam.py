"""Adam that reads and writes only the rows a batch touches, each row on a clock of its own.

    t_r <- t_r + 1,    m_r <- b1 m_r + (1 - b1) g_r,    v_r <- b2 v_r + (1 - b2) g_r^2        for each row r of the batch
    w_r <- w_r - a_r m_r / (1 - b1^t_r),    a_r = rate lr / (sqrt(v_r / (1 - b2^t_r)) + eps)
    w_r <- w_r / (1 + a_r l2 s_r)                                                                    the prior (`rows.pulled`)

Kingma, Ba, "Adam", ICLR 2015, arXiv:1412.6980, algorithm 1, run for each row over those batches that name it: between them nothing of it
moves, and nothing decays. t_r counts the row's own batches. With the step of the whole run in its place, as TensorFlow Addons' LazyAdam and
torch's SparseAdam have it, the correction of a row first seen late would be 1, and its first step (1 - b1) / sqrt(1 - b2) = 3.2 times
the learning rate: rare ids, which have few steps, would all be thrown about. The price is one number per row.
"""

from __future__ import annotations

import tensorflow as tf

from clickmill.training.rows import overwrite, pulled

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class SparseAdam(tf.Module):
    """Lazy Adam over one embedding table (rows, width). `rate` (scalar) multiplies the learning rate."""

    def __init__(self, table: tf.Variable, learning_rate: float, l2: float, rate: tf.Variable) -> None:
        super().__init__(name="sparse_adam")
        self._table, self._rate = table, rate
        self.learning_rate = learning_rate
        self.l2 = l2
        self.first = tf.Variable(tf.zeros(table.shape), trainable=False, name="first_moment")
        self.second = tf.Variable(tf.zeros(table.shape), trainable=False, name="second_moment")
        self.touches = tf.Variable(tf.zeros(table.shape[:1]), trainable=False, name="touches")

    @property
    def state(self) -> list[tf.Variable]:
        """Both moments (rows, width), and how many batches named each row (rows,)."""
        return [self.first, self.second, self.touches]

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
        t = tf.gather(self.touches, rows) + 1.0
        m = BETA_1 * tf.gather(self.first, rows) + (1.0 - BETA_1) * g
        v = BETA_2 * tf.gather(self.second, rows) + (1.0 - BETA_2) * tf.square(g)
        for variable, now in ((self.touches, t), (self.first, m), (self.second, v)):
            overwrite(variable, rows, now)
        t = t[:, tf.newaxis]
        mean, deviation = m / (1.0 - BETA_1**t), tf.sqrt(v / (1.0 - BETA_2**t))
        rate = self.learning_rate * self._rate / (deviation + EPSILON)
        overwrite(self._table, rows, pulled(values - rate * mean, rate, self.l2, shares))
