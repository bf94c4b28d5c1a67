"""Reading a batch's rows so that the way back, from places to rows, is one run through memory."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def looked_up(
    excerpt: tf.Tensor, places: Sequence[tf.Tensor], order: tf.Tensor, segments: tf.Tensor
) -> list[tf.Tensor]:
    """Rows (..., width) of `excerpt` (n, width) at each of `places`, int32 (...); `order` and `segments` describe all places
    together (`training.distinct`).

    The same as tf.gather; the gradient is a dense (n, width).
    """

    @tf.custom_gradient
    def look(excerpt: tf.Tensor) -> tuple[list[tf.Tensor], object]:
        def gradient(*upstream: tf.Tensor) -> tf.Tensor:
            flat = tf.concat([tf.reshape(part, [-1, excerpt.shape[1]]) for part in upstream], axis=0)
            return tf.math.segment_sum(tf.gather(flat, order), segments)

        return [tf.gather(excerpt, part) for part in places], gradient

    found: list[tf.Tensor] = look(excerpt)
    return found
