"""Adam over a whole embedding table, with its L2 pull on every row at every step.

    g = gradient of the mean loss + l2 w,   m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,
    w <- w - rate lr c_t m / (sqrt(v) + eps),   c_t = sqrt(1 - b2^t) / (1 - b1^t)

Kingma, Ba, "Adam", ICLR 2015, arXiv:1412.6980, section 2 (the reordered form), with L2 as part of the loss. What it buys over optimizers of
the touched rows alone: rows that a batch does not name are pulled too, so that an id seen twice in an epoch is shrunk as its two impressions
deserve and not as its two steps. What it costs is a sweep over the table at each step and two numbers per weight: for tables
of a few million weights, where regularization decides, not for those of an ad platform.
"""

from __future__ import annotations

import tensorflow as tf

from clickmill.training.sparse_adam import BETA_1, BETA_2, EPSILON


class TableAdam(tf.Module):
    """Adam over one embedding table (rows, width). `rate` (scalar) multiplies the learning rate; `l2` is that of the mean loss: the
    prior divided by the train rows."""

    def __init__(self, table: tf.Variable, learning_rate: float, l2: float, rate: tf.Variable) -> None:
        super().__init__(name="table_adam")
        self._table = table
        self._rate = rate
        self.learning_rate = learning_rate
        self.l2 = l2
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._mean = tf.Variable(tf.zeros(table.shape), trainable=False, name="mean")
        self._square = tf.Variable(tf.zeros(table.shape), trainable=False, name="square")

    @property
    def state(self) -> list[tf.Variable]:
        """What a checkpoint keeps beside the table."""
        return [self._steps, self._mean, self._square]

    def apply(
        self,
        rows: tf.Tensor,
        values: tf.Tensor,
        gradient: tf.Tensor,
        examples: tf.Tensor,
        shares: tf.Tensor,
    ) -> None:
        """See `rows.RowOptimizer`; unlike the others it learns from the gradient of the mean loss, not of the summed one, and pulls
        all rows at each step."""
        self._steps.assign_add(1)
        t = tf.cast(self._steps, tf.float32)
        scale = tf.sqrt(1.0 - BETA_2**t) / (1.0 - BETA_1**t)
        whole = tf.tensor_scatter_nd_add(self.l2 * self._table, rows[:, None], gradient)
        self._mean.assign(BETA_1 * self._mean + (1.0 - BETA_1) * whole)
        self._square.assign(BETA_2 * self._square + (1.0 - BETA_2) * tf.square(whole))
        step = scale * self._mean / (tf.sqrt(self._square) + EPSILON)
        self._table.assign_sub(self.learning_rate * self._rate * step)
