"""Named tensors of the V2 protocol held to the contract: the same rules as rows of JSON, over whole arrays.

    contract      V2 datatype   array here                     shape
    string        BYTES         object, each bytes, UTF-8      (n,)     or `Texts`, as for string_list
    int64         INT64         int64                          (n,)
    timestamp     INT64         int64, epoch seconds (UTC)     (n,)
    float32       FP32          float32, finite                (n,)
    bool          BOOL          bool                           (n,)
    string_list   BYTES         object, padded with ""         (n, L) for any L
    int64_list    INT64         int64, padded with the least   (n, L) for any L

Of a list the last `max_length` items that are not padding are kept, in order. An input left out takes the contract's
default in every row, unless it is required. A tensor has no null: the field's fill (its default, or the neutral value of its type)
says that a row lacks the field, and is legal even outside range and allowed set. Other columns of the contract (label, ids, bid) may
be present and are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from clickmill.contract import ContractField, Dtype, FeatureContract, ListOf
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.tensors import PAD_INT64
from clickmill.features.texts import Column, Texts
from serving.limits import Limits
from serving.named_tensor import NUMPY, NamedTensor
from serving.tensor_rules import check_finite, check_rules, check_texts

DATATYPE: dict[Dtype, str] = {
    Dtype.STRING: "BYTES",
    Dtype.INT64: "INT64",
    Dtype.TIMESTAMP: "INT64",
    Dtype.FLOAT32: "FP32",
    Dtype.BOOL: "BOOL",
    Dtype.STRING_LIST: "BYTES",
    Dtype.INT64_LIST: "INT64",
}


class _Rule(NamedTuple):
    """What a field asks of its tensor."""

    name: str
    field: ContractField
    datatype: str
    is_list: bool
    is_ruled: bool
    """Whether its values have a range, a set, or a calendar."""


@dataclass(frozen=True)
class TensorForm:
    """What a contract asks of tensors, looked up once per bundle: the contract derives it anew at each question."""

    inputs: dict[str, ContractField]
    ignored: frozenset[str]

    @classmethod
    def of(cls, contract: FeatureContract) -> TensorForm:
        """The form of a contract."""
        inputs = contract.inputs
        return cls(inputs, frozenset(contract.columns) - inputs.keys())

    @cached_property
    def rules(self) -> tuple[_Rule, ...]:
        return tuple(
            _Rule(
                name,
                f,
                DATATYPE[f.dtype],
                f.dtype.is_list,
                f.range is not None or f.allowed is not None or f.dtype is Dtype.TIMESTAMP,
            )
            for name, f in self.inputs.items()
            if f.dtype is not None
        )


def to_raw(
    tensors: Sequence[NamedTensor],
    form: TensorForm,
    limits: Limits,
    *,
    datatype_names: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, Column], int]:
    """Arrays for `Bundle.predict` and the number of rows n. `datatype_names` translates V2's datatypes for the words of a refusal.

    Raises RequestError (unknown or repeated name, datatype, shape, length, NaN, range, allowed set, required input
    missing, text that is not UTF-8) or RequestTooLarge (rows, string length).
    """
    given = {tensor.name: tensor for tensor in tensors}
    inputs = form.inputs
    if not tensors:
        raise RequestError(f"`inputs` is empty; send at least one of: {', '.join(inputs)}")
    if len(given) != len(tensors):
        twice = repeated([tensor.name for tensor in tensors])
        raise RequestError(f"field `{twice:.100}` is given twice; keep one", field=twice)
    for name in given:
        if name not in inputs and name not in form.ignored:
            raise RequestError(
                f"field `{name:.100}` is unknown; fields of a request: {', '.join(inputs)}", field=name
            )
    rows = _row_count(tensors, limits)
    raw: dict[str, Column] = {}
    texts: list[NamedTensor] = []
    floats: list[NamedTensor] = []
    for name, field, datatype, is_list, _ in form.rules:
        tensor = given.get(name)
        if tensor is None:
            if field.required:
                raise RequestError(
                    f"field `{name}`: is required and has no default; send it for every row", field=name
                )
            raw[name] = filled(field, rows)
            continue
        _check_form(tensor, field, datatype, is_list, datatype_names)
        raw[name] = tensor.values
        if datatype == "BYTES":
            texts.append(tensor)
        elif datatype == "FP32":
            floats.append(tensor)
    check_texts(texts, rows, limits)
    check_finite(floats)
    for name, field, _, is_list, is_ruled in form.rules:
        if name in given:
            if is_ruled:
                check_rules(name, raw[name], field, rows)
            if is_list:
                raw[name] = _packed(given[name], field)
    return raw, rows


def repeated(names: Sequence[str]) -> str:
    """The first name that has stood before; one of them does. In one pass: there may be hundreds of thousands of them in a message."""
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def filled(field: ContractField, rows: int) -> np.ndarray:
    """The field's default in every row, in the shape the graph takes."""
    fill = field.fill
    if field.dtype is Dtype.STRING:
        return np.full(rows, str(fill).encode(), dtype=object)
    if field.dtype is not None and field.dtype.is_list:
        assert isinstance(fill, tuple)
        items: list[Any] = [v.encode() if isinstance(v, str) else v for v in fill][-max_length(field) :]
        padded = np.full((rows, max_length(field)), _padding(field), dtype=_list_dtype(field))
        padded[:, : len(items)] = items
        return padded
    return np.full(rows, fill, dtype=NUMPY[DATATYPE[field.dtype]])  # type: ignore[index]


def max_length(field: ContractField) -> int:
    """Items per row of a list field."""
    assert isinstance(field.encoding, ListOf), "only list encodings read lists"
    return field.encoding.max_length


def _row_count(tensors: Sequence[NamedTensor], limits: Limits) -> int:
    shapes = {shape for _, _, shape, _ in tensors}  # one or two, in nearly every request
    alike = all(shape and min(shape) >= 0 for shape in shapes) and len({shape[0] for shape in shapes}) == 1
    for tensor in () if alike else tensors:
        if not tensor.shape or any(side < 0 for side in tensor.shape):
            raise RequestError(
                f"field `{tensor.name:.100}`: shape {_dims(tensor.shape)} has no rows; send [n] or [n, L]",
                field=tensor.name,
            )
    first = tensors[0]
    rows = first.shape[0]
    for tensor in () if alike else tensors:
        if tensor.shape[0] != rows:
            raise RequestError(
                f"field `{tensor.name}` has {tensor.shape[0]} rows, `{first.name}` has {rows}; all inputs need the same n",
                field=tensor.name,
            )
    if rows == 0:
        raise RequestError("all inputs have 0 rows; send at least one")
    if rows > limits.max_rows:
        raise RequestTooLarge(
            f"{rows:,} rows, the limit is {limits.max_rows:,} a request; split it", field=first.name
        )
    return rows


def _check_form(
    tensor: NamedTensor,
    field: ContractField,
    expected: str,
    is_list: bool,
    datatype_names: Mapping[str, str],
) -> None:
    name, datatype, shape, values = tensor
    if datatype != expected:
        raise RequestError(
            f"field `{name}`: datatype must be {datatype_names.get(expected, expected)} ({field.dtype}); "
            f"got {datatype_names.get(datatype, datatype):.60}",
            field=name,
        )
    if len(shape) != (2 if is_list else 1):
        wanted = "[n, L]" if is_list else "[n]"
        raise RequestError(f"field `{name}`: shape must be {wanted}; got {_dims(shape)}", field=name)
    size = math.prod(shape)
    if len(values) != size:
        raise RequestError(
            f"field `{name}`: shape {_dims(shape)} needs {size:,} values; got {len(values):,}", field=name
        )


def _packed(tensor: NamedTensor, field: ContractField) -> Column:
    """Each row's last items that are not padding, in order, as a right-padded matrix (n, max_length)."""
    most, padding = max_length(field), _padding(field)
    rows, length = tensor.shape
    values = tensor.values.reshape(rows, length)
    kept = values.lengths != 0 if isinstance(values, Texts) else values != padding
    counts = kept.sum(axis=1)
    at = kept.cumsum(axis=1) - 1 - np.maximum(counts - most, 0)[:, None]
    kept &= at >= 0
    row, _ = np.nonzero(kept)
    place = row, at[kept]
    if isinstance(values, Texts):
        starts, lengths = np.zeros((2, rows, most), np.int64)
        starts[place], lengths[place] = values.starts[kept], values.lengths[kept]
        return Texts(values.buffer, starts, lengths)
    packed = np.full((rows, most), padding, dtype=_list_dtype(field))
    packed[place] = values[kept]
    return packed


def _padding(field: ContractField) -> Any:
    return b"" if field.dtype is Dtype.STRING_LIST else PAD_INT64


def _list_dtype(field: ContractField) -> Any:
    return object if field.dtype is Dtype.STRING_LIST else np.int64


def _dims(shape: Sequence[int]) -> str:
    text = str(list(shape))
    return text if len(text) <= 60 else f"{text[:57]}..."
