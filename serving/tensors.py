"""Named tensors of the V2 protocol held to the contract: the same rules as rows of JSON, over whole arrays.

    contract      V2 datatype   array here                     shape
    string        BYTES         object, each bytes, UTF-8      (n,)
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
from types import MappingProxyType
from typing import Any

import numpy as np

from clickmill.contract import ContractField, Dtype, FeatureContract, ListOf
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.tensors import PAD_INT64
from serving.limits import Limits
from serving.refusals import MalformedRequest

_YEAR_10000 = 253_402_300_800
"""Seconds since 1970; a timestamp beyond it was sent in milli- or microseconds."""

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
_NUMPY: dict[str, Any] = {"INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}


@dataclass(frozen=True)
class NamedTensor:
    """One tensor off the wire: `values` is flat, row-major, of the datatype's numpy type (object for BYTES)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray


def from_list(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> NamedTensor:
    """A tensor from JSON `data`, flat or nested. Raises RequestError for values that are not of the datatype."""
    flat = _flatten(data, depth=len(shape))
    kinds = set(map(type, flat))
    legal = _JSON_TYPES.get(datatype, frozenset())
    if kinds - legal and legal:
        row = next(i for i, value in enumerate(flat) if type(value) not in legal)
        width = max(math.prod(shape[1:]), 1)
        raise RequestError(
            f"row {row // width}, field `{name}`: must be {datatype}; got {_shown(flat[row])}. "
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


def from_buffer(name: str, datatype: str, shape: Sequence[int], buffer: bytes | memoryview) -> NamedTensor:
    """A tensor from the bytes of the binary extension (little endian; BYTES: 4 bytes of length before each)."""
    if datatype == "BYTES":
        return NamedTensor(name, datatype, tuple(shape), objects(_strings(name, bytes(buffer))))
    dtype = np.dtype(_NUMPY.get(datatype, np.int8))
    if len(buffer) % dtype.itemsize:
        raise MalformedRequest(
            f"input `{name}`: {len(buffer)} bytes are no whole number of {datatype} ({dtype.itemsize} bytes each)"
        )
    values = np.frombuffer(buffer, dtype=np.uint8 if datatype == "BOOL" else dtype)
    # any byte but 0 is true: numpy would keep a 2 as a bool that is neither
    return NamedTensor(name, datatype, tuple(shape), values != 0 if datatype == "BOOL" else values)


def objects(values: Sequence[Any]) -> np.ndarray:
    """A one-dimensional object array; np.array would make bytes of one length into a fixed-width type."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


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


def to_raw(
    tensors: Sequence[NamedTensor],
    form: Form,
    limits: Limits,
    *,
    datatype_names: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], int]:
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
    raw = {}
    for name, field in inputs.items():
        tensor = given.get(name)
        if tensor is not None:
            raw[name] = _checked(tensor, field, rows, limits, datatype_names)
        elif field.required:
            raise RequestError(
                f"field `{name}`: is required and has no default; send it for every row", field=name
            )
        else:
            raw[name] = filled(field, rows)
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
    for tensor in tensors:
        if not tensor.shape or any(side < 0 for side in tensor.shape):
            raise RequestError(
                f"field `{tensor.name:.100}`: shape {_dims(tensor.shape)} has no rows; send [n] or [n, L]",
                field=tensor.name,
            )
    first = tensors[0]
    rows = first.shape[0]
    for tensor in tensors:
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


def _checked(
    tensor: NamedTensor, field: ContractField, rows: int, limits: Limits, datatype_names: Mapping[str, str]
) -> np.ndarray:
    name, values = tensor.name, tensor.values
    assert field.dtype is not None, "inputs are never derived"
    expected = DATATYPE[field.dtype]
    if tensor.datatype != expected:
        raise RequestError(
            f"field `{name}`: datatype must be {datatype_names.get(expected, expected)} ({field.dtype}); "
            f"got {datatype_names.get(tensor.datatype, tensor.datatype):.60}",
            field=name,
        )
    if len(tensor.shape) != (2 if field.dtype.is_list else 1):
        shape = "[n, L]" if field.dtype.is_list else "[n]"
        raise RequestError(f"field `{name}`: shape must be {shape}; got {_dims(tensor.shape)}", field=name)
    size = math.prod(tensor.shape)
    if len(values) != size:
        raise RequestError(
            f"field `{name}`: shape {_dims(tensor.shape)} needs {size:,} values; got {len(values):,}",
            field=name,
        )
    if expected == "BYTES":
        _check_text(name, values, size // rows or 1, limits)
    elif expected == "FP32":
        finite = np.isfinite(values)
        if not finite.all():
            _fail(name, values, ~finite, "must be a finite number")
    if field.range is not None:
        low, high = field.range.min, field.range.max
        bad = np.zeros(rows, dtype=bool)
        if low is not None:
            bad |= values < low
        if high is not None:
            bad |= values > high
        bad &= ~_missing(values, field)
        if bad.any():
            low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
            _fail(name, values, bad, f"must lie in {low:g} to {high:g}")
    if field.dtype is Dtype.TIMESTAMP:
        bad = (values <= -_YEAR_10000) | (values >= _YEAR_10000)
        if bad.any():
            _fail(name, values, bad, "lies beyond the year 9999; send seconds, not milli- or microseconds")
    if field.allowed is not None:
        allowed = {v.encode() if isinstance(v, str) else v for v in field.allowed}
        if not field.required:
            allowed.add(field.fill.encode() if isinstance(field.fill, str) else field.fill)  # type: ignore[arg-type]
        if not allowed.issuperset(values.tolist()):
            bad = np.array([value not in allowed for value in values.tolist()])
            _fail(name, values, bad, f"must be one of {', '.join(map(str, field.allowed))}")
    return _packed(tensor, field) if field.dtype.is_list else values


def _missing(values: np.ndarray, field: ContractField) -> np.ndarray:
    """Which rows carry the field's fill, and so lack the field; none do where it is required."""
    if field.required:
        return np.zeros(len(values), dtype=bool)
    missing: np.ndarray = values == np.asarray(field.fill, dtype=values.dtype)
    return missing


def _check_text(name: str, values: np.ndarray, width: int, limits: Limits) -> None:
    texts: list[bytes] = values.tolist()
    lengths = list(map(len, texts))
    longest = max(lengths, default=0)
    if longest > limits.max_string_bytes:
        raise RequestTooLarge(
            f"row {(row := lengths.index(longest) // width)}, field `{name}`: a string of {longest:,} bytes, "
            f"the limit is {limits.max_string_bytes:,}",
            field=name,
            row=row,
        )
    try:
        # the separator is ASCII, so a cut character cannot be completed by its neighbour
        b"\n".join(texts).decode()
    except UnicodeDecodeError:
        row = next(i for i, text in enumerate(texts) if not _is_utf8(text)) // width
        raise RequestError(
            f"row {row}, field `{name}`: is not UTF-8; encode the text before sending it", field=name, row=row
        ) from None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _packed(tensor: NamedTensor, field: ContractField) -> np.ndarray:
    """Each row's last items that are not padding, in order, as a right-padded matrix (n, max_length)."""
    most, padding = max_length(field), _padding(field)
    rows, length = tensor.shape
    values = tensor.values.reshape(rows, length)
    kept = values != padding
    counts = kept.sum(axis=1)
    packed = np.full((rows, most), padding, dtype=_list_dtype(field))
    at = kept.cumsum(axis=1) - 1 - np.maximum(counts - most, 0)[:, None]
    kept &= at >= 0
    row, _ = np.nonzero(kept)
    packed[row, at[kept]] = values[kept]
    return packed


def _padding(field: ContractField) -> Any:
    return b"" if field.dtype is Dtype.STRING_LIST else PAD_INT64


def _list_dtype(field: ContractField) -> Any:
    return object if field.dtype is Dtype.STRING_LIST else np.int64


def _fail(name: str, values: np.ndarray, bad: np.ndarray, rule: str) -> None:
    row = int(bad.argmax())
    value = values[row]
    shown = value.decode(errors="replace") if isinstance(value, bytes) else value
    raise RequestError(f"row {row}, field `{name}`: {rule}; got {_shown(shown)}", field=name, row=row)


def _dims(shape: Sequence[int]) -> str:
    text = str(list(shape))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flatten(data: list[Any], depth: int) -> list[Any]:
    """One level per axis beyond the first, so that nesting deeper than the shape stays visible as a wrong type."""
    for _ in range(max(depth - 1, 0)):
        if not data or not all(type(part) is list for part in data):
            break
        data = [value for part in data for value in part]
    return data


def _strings(name: str, buffer: bytes) -> list[bytes]:
    texts, at, end = _strings_at_once(buffer), 0, len(buffer)
    if texts:
        return texts
    while at < end:
        start = at + 4
        stop = start + int.from_bytes(buffer[at:start], "little")
        if start > end or stop > end:
            raise MalformedRequest(
                f"input `{name}`: the string at byte {at} runs past the end of its {end:,} bytes; "
                "each string needs its length before it, 4 bytes, little endian"
            )
        texts.append(buffer[start:stop])
        at = stop
    return texts


_MANY_BYTES = 256
"""Size of a buffer from which it is worth a look whether its strings can be cut at once."""


def _strings_at_once(buffer: bytes) -> list[bytes]:
    """Strings of one length, or of up to 255 bytes and without three zeros in a row, three times as quick as one by one; none where
    the buffer holds others. Either guess is proven by the lengths in the buffer, so what is cut is what a walk would find."""
    end = len(buffer)
    if end < _MANY_BYTES:
        return []
    length = int.from_bytes(buffer[:4], "little")
    step = 4 + length
    if end % step == 0:
        lengths = np.frombuffer(buffer, np.uint8).reshape(-1, step)[:, :4]
        if (lengths == lengths[0]).all():
            # the last of many empty ones begins where the buffer ends
            return [buffer[at : at + length] for at in range(4, end + 1, step)]
    first, *parts = buffer.split(b"\0\0\0")
    if len(first) != 1 or not parts or not all(parts):
        return []
    # each part is a text and the first byte of the length of the next
    texts = [part[:-1] for part in parts[:-1]]
    texts.append(parts[-1])
    told = first + b"".join([part[-1:] for part in parts[:-1]])
    return texts if list(map(len, texts)) == list(told) else []
