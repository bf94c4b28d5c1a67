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
from serving.refusals import MalformedRequest
from serving.tensor_rules import check_finite, check_rules, check_texts, shown
from serving.wire_texts import Buffer, texts_of, texts_of_all

DATATYPE: dict[Dtype, str] = {
    Dtype.STRING: "BYTES",
    Dtype.INT64: "INT64",
    Dtype.TIMESTAMP: "INT64",
    Dtype.FLOAT32: "FP32",
    Dtype.BOOL: "BOOL",
    Dtype.STRING_LIST: "BYTES",
    Dtype.INT64_LIST: "INT64",
}

_JSON_TYPES: dict[str, frozenset[type]] = {
    "BYTES": frozenset({str}),
    "INT64": frozenset({int}),
    "FP32": frozenset({int, float}),
    "BOOL": frozenset({bool}),
}
_BYTE = np.dtype(np.int8)
_NUMPY: dict[str, Any] = {"INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}
_WIRE = {name: np.dtype(kind) for name, kind in _NUMPY.items()}


class NamedTensor(NamedTuple):
    """One tensor off the wire: `values` is flat, row-major, of the datatype's numpy type (object or `Texts` for BYTES)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Column


def from_list(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> NamedTensor:
    """A tensor from JSON `data`, flat or nested. Raises RequestError for values that are not of the datatype."""
    flat = _flatten(data, depth=len(shape))
    kinds = set(map(type, flat))
    legal = _JSON_TYPES.get(datatype, frozenset())
    if kinds - legal and legal:
        row = next(i for i, value in enumerate(flat) if type(value) not in legal)
        width = max(math.prod(shape[1:]), 1)
        raise RequestError(
            f"row {row // width}, field `{name}`: must be {datatype}; got {shown(flat[row])}. "
            "A tensor has no null: leave the whole input out to use its default",
            field=name,
            row=row // width,
        )
    if datatype == "BYTES":
        return NamedTensor(name, datatype, tuple(shape), objects([text.encode() for text in flat]))
    if datatype not in _NUMPY:
        return NamedTensor(
            name, datatype, tuple(shape), np.zeros(len(flat), np.int8)
        )  # refused by the contract
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is infinite and refused as such
            values = np.array(flat, dtype=_NUMPY[datatype])
    except OverflowError as error:
        raise RequestError(f"field `{name}`: holds a number beyond 64 bits", field=name) from error
    return NamedTensor(name, datatype, tuple(shape), values)


def from_buffers(items: Sequence[tuple[int, str, str, tuple[int, ...], Buffer]]) -> list[NamedTensor]:
    """Tensors from the bytes of the binary extension (little endian; BYTES: 4 bytes of length before each): of each item its place among
    the inputs, name, datatype, shape and buffer. Raises MalformedRequest with the path of the input.
    """
    at_once = texts_of_all([buffer for _, _, datatype, _, buffer in items if datatype == "BYTES"])
    found = None if at_once is None else iter(at_once)
    tensors = []
    for place, name, datatype, shape, buffer in items:
        try:
            if datatype != "BYTES":
                values: Column = _numbers(name, datatype, buffer)
            else:
                values = texts_of(name, buffer) if found is None else next(found)
        except MalformedRequest as error:
            error.path = f"inputs[{place}]"
            raise
        tensors.append(NamedTensor(name, datatype, shape, values))
    return tensors


def _numbers(name: str, datatype: str, buffer: Buffer) -> np.ndarray:
    dtype = _WIRE.get(datatype, _BYTE)
    if len(buffer) % dtype.itemsize:
        raise MalformedRequest(
            f"input `{name}`: {len(buffer)} bytes are no whole number of {datatype} ({dtype.itemsize} bytes each)"
        )
    values = np.frombuffer(buffer, dtype=np.uint8 if datatype == "BOOL" else dtype)
    # any byte but 0 is true: numpy would keep a 2 as a bool that is neither
    return values != 0 if datatype == "BOOL" else values


def objects(values: Sequence[Any]) -> np.ndarray:
    """A one-dimensional object array; np.array would make bytes of one length into a fixed-width type."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


class _Rule(NamedTuple):
    """What a field asks of its tensor."""

    name: str
    field: ContractField
    datatype: str
    is_list: bool
    is_ruled: bool
    """Whether its values have a range, a set, or a calendar."""


@dataclass(frozen=True)
class Form:
    """What a contract asks of tensors, looked up once per bundle: the contract derives it anew at each question."""

    inputs: dict[str, ContractField]
    ignored: frozenset[str]

    @classmethod
    def of(cls, contract: FeatureContract) -> Form:
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
    form: Form,
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
    return np.full(rows, fill, dtype=_NUMPY[DATATYPE[field.dtype]])  # type: ignore[index]


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


def _flatten(data: list[Any], depth: int) -> list[Any]:
    """One level per axis beyond the first, so that nesting deeper than the shape stays visible as a wrong type."""
    for _ in range(max(depth - 1, 0)):
        if not data or not all(type(part) is list for part in data):
            break
        data = [value for part in data for value in part]
    return data
