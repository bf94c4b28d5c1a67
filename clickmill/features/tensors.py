"""From tables and requests to raw tensors: one dtype, one filling of the missing, one padding, for training and serving.

Raw is {field: array} over `contract.inputs`, n rows each:

    string       object (n,) of UTF-8 bytes          string_list  object (n, L), padded on the right with b""
    int64        int64 (n,)                          int64_list   int64 (n, L), padded with the least int64
    float32      float32 (n,)                        timestamp    int64 (n,), seconds since 1970 UTC
    bool         bool (n,)

L is the list's `max_length`; the last L items are kept, in order. Items that are null or equal to the padding are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import ContractField, Dtype, FeatureContract, ListOf
from clickmill.errors import SchemaMismatch
from clickmill.features.requests import PAD_INT64, from_columns, from_rows

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["PAD_INT64", "filled", "from_arrow", "from_columns", "from_rows", "signature"]

Raw = dict[str, np.ndarray]
_MICROSECONDS = 1_000_000


def from_arrow(table: pa.Table, contract: FeatureContract) -> Raw:
    """Columns of a table as raw tensors; nulls take `ContractField.fill`. No Python loop over rows.

    Raises SchemaMismatch when a column is missing or of another type than the contract says.
    """
    missing = [name for name in contract.inputs if name not in table.column_names]
    if missing:
        raise SchemaMismatch(f"the table lacks {', '.join(missing)}; it has {', '.join(table.column_names)}")
    raw = {}
    for name, f in contract.inputs.items():
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # a table without chunks combines to no array
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            raw[name] = filled(column, f)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaMismatch(
                f"field `{name}`: the table's {column.type} can't be read as {f.dtype} ({error}); check the contract"
            ) from error
    return raw


def filled(column: pa.Array, f: ContractField) -> np.ndarray:
    """One column (n,) as the field's raw tensor, its nulls filled. Raises pyarrow.ArrowInvalid where a value is not of the field's type."""
    return _list(column, f) if f.dtype and f.dtype.is_list else _scalar(column, f)


def signature(contract: FeatureContract) -> dict[str, tf.TensorSpec]:
    """Tensor specification of every input, by name: (None,) for scalars, (None, None) for lists."""
    import tensorflow as tf

    dtypes = {
        Dtype.STRING: tf.string,
        Dtype.INT64: tf.int64,
        Dtype.FLOAT32: tf.float32,
        Dtype.BOOL: tf.bool,
        Dtype.TIMESTAMP: tf.int64,
        Dtype.STRING_LIST: tf.string,
        Dtype.INT64_LIST: tf.int64,
    }
    return {
        name: tf.TensorSpec([None, None] if f.dtype.is_list else [None], dtypes[f.dtype], name=name)
        for name, f in contract.inputs.items()
        if f.dtype is not None
    }


def _scalar(column: pa.Array, f: ContractField) -> np.ndarray:
    if f.dtype is Dtype.STRING:
        filled = pc.fill_null(column.cast(pa.string()), f.fill)
        return filled.cast(pa.binary()).to_numpy(zero_copy_only=False)
    if f.dtype is Dtype.TIMESTAMP:
        micros = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(
            pa.int64()
        )
        seconds = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False) // _MICROSECONDS
        return np.where(micros.is_null().to_numpy(zero_copy_only=False), np.int64(f.fill), seconds)  # type: ignore[arg-type]
    kinds = {
        Dtype.INT64: (pa.int64(), np.int64),
        Dtype.FLOAT32: (pa.float32(), np.float32),
        Dtype.BOOL: (pa.bool_(), np.bool_),
    }
    assert f.dtype is not None
    arrow, numpy = kinds[f.dtype]
    # Doubles lose digits on their way to float32, which is what the contract asks for.
    values = column.cast(arrow, safe=f.dtype is not Dtype.FLOAT32)
    fill = pa.scalar(f.fill, arrow)
    return np.asarray(pc.fill_null(values, fill).to_numpy(zero_copy_only=False), dtype=numpy)


def _list(column: pa.Array, f: ContractField) -> np.ndarray:
    assert isinstance(f.encoding, ListOf)
    length, string = f.encoding.max_length, f.dtype is Dtype.STRING_LIST
    column = column.cast(pa.list_(pa.string() if string else pa.int64()))
    items = column.flatten()
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(column)), counts)
    values, kept = _items(items, string)
    matrix = _pack(values[kept], row[kept], len(column), length)
    default = _pack(*_default_items(f), 1, length)
    matrix[column.is_null().to_numpy(zero_copy_only=False)] = default[0]
    return matrix


def _items(items: pa.Array, string: bool) -> tuple[np.ndarray, np.ndarray]:
    """Flat values and which of them are kept: not null, not equal to the padding."""
    if string:
        filled = pc.fill_null(items, "")
        kept = pc.not_equal(filled, "").to_numpy(zero_copy_only=False)
        return filled.cast(pa.binary()).to_numpy(zero_copy_only=False), kept
    values = pc.fill_null(items, PAD_INT64).to_numpy(zero_copy_only=False)
    return values, values != PAD_INT64


def _default_items(f: ContractField) -> tuple[np.ndarray, np.ndarray]:
    string = f.dtype is Dtype.STRING_LIST
    values, kept = _items(pa.array(f.fill, pa.string() if string else pa.int64()), string)  # type: ignore[arg-type]
    return values[kept], np.zeros(int(kept.sum()), np.int64)


def _pack(values: np.ndarray, row: np.ndarray, rows: int, length: int) -> np.ndarray:
    """Flat values with their ascending row numbers as a right-padded matrix (rows, length) of each row's last items."""
    counts = np.bincount(row, minlength=rows)
    starts = np.cumsum(counts) - counts
    column = np.arange(len(row)) - starts[row] - np.maximum(counts - length, 0)[row]
    kept = column >= 0
    string = values.dtype == object
    matrix = np.full((rows, length), b"" if string else PAD_INT64, dtype=object if string else np.int64)
    matrix[row[kept], column[kept]] = values[kept]
    return matrix
