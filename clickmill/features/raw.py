"""Rows as the graph takes them ("raw": field -> array) and as Parquet keeps them, and the way between.

Lists are padded on the right in arrays and have their own length in tables; timestamps are epoch seconds in
arrays and UTC timestamps in tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from clickmill.contract import ContractField, Dtype, FeatureContract, ListOf

Raw = dict[str, np.ndarray]
"""field -> (n,), or (n, L) for lists, over `contract.inputs`."""

LIST_PADDING: dict[Dtype, object] = {
    Dtype.STRING_LIST: b"",
    Dtype.INT64_LIST: np.iinfo(np.int64).min,
}

_ARROW: dict[Dtype, pa.DataType] = {
    Dtype.STRING: pa.string(),
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT32: pa.float32(),
    Dtype.BOOL: pa.bool_(),
    Dtype.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Dtype.STRING_LIST: pa.list_(pa.string()),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
}


def length(raw: Mapping[str, np.ndarray]) -> int:
    """Number of rows."""
    return len(next(iter(raw.values())))


def take(raw: Mapping[str, np.ndarray], at: np.ndarray | slice) -> Raw:
    """The rows at the given positions."""
    return {name: values[at] for name, values in raw.items()}


def concat(parts: Sequence[Mapping[str, np.ndarray]]) -> Raw:
    """Rows of all parts, one after the other. Lists must be padded to one length."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def max_length(field: ContractField) -> int:
    """Items a list field keeps."""
    assert isinstance(field.encoding, ListOf), "only a list encoding has a length"
    return field.encoding.max_length


def to_arrow(raw: Mapping[str, np.ndarray], contract: FeatureContract) -> pa.Table:
    """A table with the contract's types from raw arrays; the padding of lists is dropped."""
    columns = {}
    for name, field in contract.inputs.items():
        assert field.dtype is not None, "inputs are never derived"
        columns[name] = _to_arrow(raw[name], field.dtype)
    return pa.table(columns)


def _to_arrow(values: np.ndarray, dtype: Dtype) -> pa.Array:
    if dtype.is_list:
        padding = LIST_PADDING[dtype]
        keep = values != padding
        ends = np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int32)
        items = _to_arrow(values[keep], Dtype.STRING if dtype is Dtype.STRING_LIST else Dtype.INT64)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items)
    if dtype is Dtype.STRING:
        return pa.array(values.tolist(), pa.binary()).cast(pa.string())
    if dtype is Dtype.TIMESTAMP:
        return pa.array(values.astype("datetime64[s]").astype("datetime64[us]")).cast(_ARROW[dtype])
    return pa.array(values, _ARROW[dtype])
