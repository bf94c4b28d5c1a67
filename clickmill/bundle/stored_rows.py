"""Embedding rows as the exported graph keeps them: float32, bfloat16, or int8 with a scale per row.

    bfloat16    the upper half of a float32: 8 bits of mantissa, a relative error of at most 2^-8 per weight; half the bytes
    int8        q = round(w / s), s = max |w| / 127 over the row: an error of at most s / 2; width + 4 bytes per row instead of 4 width

In int8 a table of at most 4 columns would be no smaller than in bfloat16, and is kept in that. The graph reads the rows a request names and widens
them to float32; all else is computed as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel

if TYPE_CHECKING:
    from clickmill.models.embedding import FusedEmbedding
    from clickmill.training import TrainedModel

RowFormat = Literal["float32", "bfloat16", "int8"]
_LARGEST = 127
_NARROW = 4


class ExportConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How a trained model becomes a graph."""

    rows: RowFormat = "float32"
    """How the embedding rows are stored in the graph. float32 loses nothing and is the default: most tables fit. bfloat16 halves them, int8
    makes them a third at width 8 and a quarter at large widths; what each costs in NE stands in the card and the manifest."""


@dataclass(frozen=True)
class StoredRows:
    """One table as it is stored."""

    values: np.ndarray
    """(rows, width) float32, bfloat16 or int8."""
    scale: np.ndarray | None = None
    """(rows, 1) float32 of int8 rows."""

    @property
    def bytes(self) -> int:
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def widened(self) -> np.ndarray:
        """(rows, width) float32: what the graph reads."""
        wide = self.values.astype(np.float32)
        return wide if self.scale is None else wide * self.scale


def stored(table: np.ndarray, rows: RowFormat) -> StoredRows:
    """A float32 table (rows, width) in the given format."""
    if rows == "float32":
        return StoredRows(table)
    if rows == "bfloat16" or table.shape[1] <= _NARROW:
        import tensorflow as tf

        return StoredRows(table.astype(tf.bfloat16.as_numpy_dtype))
    scale = np.abs(table).max(axis=1, keepdims=True) / np.float32(_LARGEST)
    quotient = np.divide(table, scale, out=np.zeros_like(table), where=scale > 0)
    return StoredRows(np.rint(quotient).astype(np.int8), scale)


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A trained model as it will be served: its rows are what the stored ones widen to."""

    trained: TrainedModel
    """Over the widened rows, in float32: the Python path beside which the graph is held."""
    rows: RowFormat
    rounded: dict[str, StoredRows]
    """By name of the embedding layer; empty for float32, whose tables are exported as they are."""
    table_bytes: int
    """Of all tables as stored."""
    float32_bytes: int
    """Of all tables in float32."""


def served(trained: TrainedModel, rows: RowFormat = "float32") -> ServedModel:
    """`trained` with its embedding rows stored as `rows`; the model given is left as it is."""
    from clickmill.models import build

    whole = sum(4 * layer.rows * layer.width for layer in tables_of(trained.keras_model))
    if rows == "float32":
        return ServedModel(trained, rows, {}, whole, whole)
    model = build(trained.name, trained.space, trained.meta["model_config"])
    for ours, theirs in zip(model.variables, trained.keras_model.variables, strict=True):
        ours.assign(theirs)
    # Two models of one configuration have the same layers in the same order; names of embeddings are given, not numbered.
    rounded = {layer.name: stored(np.asarray(layer.table), rows) for layer in tables_of(model)}
    for layer in tables_of(model):
        layer.table.assign(rounded[layer.name].widened())
    size = sum(table.bytes for table in rounded.values())
    return ServedModel(replace(trained, keras_model=model), rows, rounded, size, whole)


def tables_of(model: Any) -> list[FusedEmbedding]:
    """Embedding layers of a Keras model, in its order."""
    from clickmill.models.embedding import FusedEmbedding

    return [layer for layer in model.layers if isinstance(layer, FusedEmbedding)]


def look_up(table: StoredRows, module: Any) -> Callable[[Any], Any]:
    """The graph's reading of a stored table: int32 (...) to float32 (..., width). `module` is given the variables to keep."""
    import tensorflow as tf

    module.values = tf.Variable(tf.constant(table.values), trainable=False, name="rows")
    if table.scale is not None:
        module.scale = tf.Variable(tf.constant(table.scale), trainable=False, name="scale")

    def read(rows: Any) -> Any:
        wide = tf.cast(tf.gather(module.values, rows), tf.float32)
        return wide if table.scale is None else wide * tf.gather(module.scale, rows)

    return read
