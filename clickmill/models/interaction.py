"""The interaction layer of DLRM."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class DotInteraction(keras.layers.Layer):
    """<z_i, z_j> of all pairs i > j: (b, fields, d) to (b, fields (fields - 1) / 2), in the order (1,0), (2,0), (2,1), (3,0) ...

    Naumov et al., arXiv:1906.00091, section 2.1.3: the lower triangle of Z Z' without its diagonal.
    """

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        fields = input_shape[1]
        row, column = np.tril_indices(fields, -1)
        self._pairs = (row * fields + column).astype(np.int32)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        fields = vectors.shape[1]
        products = tf.matmul(vectors, vectors, transpose_b=True)
        return tf.gather(tf.reshape(products, [-1, fields * fields]), self._pairs, axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, int, int]) -> tuple[int | None, int]:
        return (input_shape[0], input_shape[1] * (input_shape[1] - 1) // 2)
