"""One named tensor as the V2 protocol sends it, read from JSON or from the bytes of the binary extension; no contract is known here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clickmill.errors import RequestError
from clickmill.features.texts import Column
from serving.refusals import MalformedRequest
from serving.wire_texts import Buffer, texts_of, texts_of_all

NUMPY: dict[str, Any] = {"INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}
"""Element type of each V2 datatype that is not text."""

_JSON_TYPES: dict[str, frozenset[type]] = {
    "BYTES": frozenset({str}),
    "INT64": frozenset({int}),
    "FP32": frozenset({int, float}),
    "BOOL": frozenset({bool}),
}
_BYTE = np.dtype(np.int8)
_WIRE = {name: np.dtype(kind) for name, kind in NUMPY.items()}


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
    if datatype not in NUMPY:
        return NamedTensor(
            name, datatype, tuple(shape), np.zeros(len(flat), np.int8)
        )  # refused by the contract
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is infinite and refused as such
            values = np.array(flat, dtype=NUMPY[datatype])
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


def shown(value: Any) -> str:
    """A value as a refusal quotes it: shortened."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flatten(data: list[Any], depth: int) -> list[Any]:
    """One level per axis beyond the first, so that nesting deeper than the shape stays visible as a wrong type."""
    for _ in range(max(depth - 1, 0)):
        if not data or not all(type(part) is list for part in data):
            break
        data = [value for part in data for value in part]
    return data
