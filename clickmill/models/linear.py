"""The linear part: one weight per row of the fused table and per numeric. LR is it; FM and Wide & Deep contain it."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from clickmill.features import FeatureSpace
from clickmill.models.embedding import field_vectors


class FieldSum(keras.layers.Layer):
    """Sum of all entries of a row: (b, fields, 1) to (b,)."""

    def call(self, weights: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(weights, axis=(1, 2))

    def compute_output_shape(self, input_shape: tuple[int | None, int, int]) -> tuple[int | None]:
        return (input_shape[0],)


def linear_terms(space: FeatureSpace, inputs: Mapping[str, keras.KerasTensor]) -> list[keras.KerasTensor]:
    """Terms (b,) and (b, 1) whose sum is w'x; a list weighs in with the mean of its items' weights. All weights start at zero."""
    terms = []
    weights = field_vectors(space, inputs, 1, deviation=0.0, seed=0, name="linear")
    if weights is not None:
        terms.append(FieldSum(name="linear_sum")(weights))
    if "numerics" in inputs:
        terms.append(
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="linear_numerics")(
                inputs["numerics"]
            )
        )
    return terms
