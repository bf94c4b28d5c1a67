"""The fused embedding: one table for all fields of one width, row 0 padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from clickmill.features import FeatureSpace


class FusedEmbedding(keras.layers.Layer):
    """Rows of one table: int32 (...) to float32 (..., width). Row 0 starts at zero, and stays there as long as its
    outputs are masked (`field_vectors` does), because then it never gets a gradient.

    The gradient with respect to `table` is sparse (tf.IndexedSlices).
    """

    def __init__(self, rows: int, width: int, *, deviation: float, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.rows, self.width = rows, width
        self._deviation, self._seed = deviation, seed
        self._read: list[tuple[tf.Tensor, tf.Tensor]] | None = None
        self._reader: Callable[[tf.Tensor], tf.Tensor] | None = None

    def build(self, input_shape: object = None) -> None:
        self.table = self.add_weight(
            shape=(self.rows, self.width), dtype="float32", initializer=self._initial, name="table"
        )

    def _initial(self, shape: Sequence[int], dtype: str | None = None) -> np.ndarray:
        values = np.random.default_rng(self._seed).standard_normal(tuple(shape), dtype=np.float32)
        values *= self._deviation
        values[0] = 0.0
        return values

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        if self._reader is not None:
            return self._reader(rows)
        if self._read is None:
            # On the variable, not on keras.ops: a gather that first reads the variable would copy the whole table each step.
            return tf.gather(self.table.value, rows)
        for known, vectors in self._read:
            if rows is known:
                return vectors
        raise ValueError(
            f"table {self.name}: asked for rows other than the model's inputs, which the trainer did not read"
        )

    @contextmanager
    def answering(self, read: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> Iterator[None]:
        """Within it the vectors of a tensor of rows are those beside it in `read` [(rows, vectors)], and the table is not looked at.

        The trainer reads each row of a batch once, and differentiates with respect to these vectors.
        """
        self._read = list(read)
        try:
            yield
        finally:
            self._read = None

    @contextmanager
    def read_by(self, reader: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
        """Within it, `reader` turns row numbers (...) into vectors (..., width), and the table is not touched: an export may store the
        rows otherwise."""
        self._reader = reader
        try:
            yield
        finally:
            self._reader = None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, self.width)


class MaskedMean(keras.layers.Layer):
    """Mean over the items that are there: vectors (b, L, d) and rows (b, L) to (b, d); zero for an empty list."""

    def call(self, vectors: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        there = tf.cast(tf.not_equal(rows, 0), vectors.dtype)
        total = tf.einsum("bld,bl->bd", vectors, there)
        return total / tf.maximum(tf.reduce_sum(there, axis=1, keepdims=True), 1.0)

    def compute_output_shape(
        self, vectors_shape: tuple[int | None, ...], rows_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (vectors_shape[0], vectors_shape[2])


def item_vectors(
    space: FeatureSpace,
    inputs: Mapping[str, keras.KerasTensor],
    width: int,
    *,
    deviation: float,
    seed: int,
    name: str,
) -> tuple[keras.KerasTensor | None, dict[str, keras.KerasTensor]]:
    """Everything the one table holds for a row: its slots' vectors (b, slots, width), and by name of each list its items'
    (b, length, width), padding included. None and no lists where the contract has neither."""
    if not space.slots and not space.lists:
        return None, {}
    table = FusedEmbedding(space.table_rows, width, deviation=deviation, seed=seed, name=name)
    slots = table(inputs["slots"]) if space.slots else None
    return slots, {slot.name: table(inputs[f"list/{slot.name}"]) for slot in space.lists}


def side_by_side(
    slots: keras.KerasTensor | None, lists: Sequence[keras.KerasTensor], *, name: str
) -> keras.KerasTensor | None:
    """Slots' vectors (b, slots, d) and, after them, one vector (b, d) per list: (b, fields, d). None without either."""
    parts = [] if slots is None else [slots]
    for i, vector in enumerate(lists):
        parts.append(keras.layers.Reshape((1, vector.shape[1]), name=f"{name}_list_{i}")(vector))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1, name=f"{name}_fields")(parts)


def field_vectors(
    space: FeatureSpace,
    inputs: Mapping[str, keras.KerasTensor],
    width: int,
    *,
    deviation: float,
    seed: int,
    name: str,
) -> keras.KerasTensor | None:
    """One vector per slot and, after them, one per list (mean of its items): (b, fields, width). None without either."""
    slots, items = item_vectors(space, inputs, width, deviation=deviation, seed=seed, name=name)
    means = [
        MaskedMean(name=f"{name}_mean_{i}")(vectors, inputs[f"list/{key}"])
        for i, (key, vectors) in enumerate(items.items())
    ]
    return side_by_side(slots, means, name=name)
