"""Matrix products of towers and crosses, in the precision that is in force where they are traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import keras
import tensorflow as tf

Precision = Literal["float32", "bfloat16"]

_in_force: ContextVar[Precision] = ContextVar("precision of matrix products", default="float32")


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Within it `product` rounds its factors to `precision`, forward and backward. All else stays float32: weights, sums, what the
    optimizer sees. A model called outside it, as an export is, is float32 throughout."""
    token = _in_force.set(precision)
    try:
        yield
    finally:
        _in_force.reset(token)


def product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a b: float32 (..., n) and (n, m) to float32 (..., m)."""
    if _in_force.get() == "float32":
        return keras.ops.matmul(a, b)
    low = keras.ops.matmul(tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16))
    return tf.cast(low, tf.float32)
