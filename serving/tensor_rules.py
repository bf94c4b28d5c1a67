"""Values of named tensors held to the contract, over whole arrays: text, numbers, range, calendar, allowed set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clickmill.contract import ContractField, Dtype
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.texts import Column, Texts
from serving.limits import Limits
from serving.named_tensor import NamedTensor, shown
from serving.wire_texts import are_utf8

_YEAR_10000 = 253_402_300_800
"""Seconds since 1970; a timestamp beyond it was sent in milli- or microseconds."""


def check_texts(tensors: Sequence[NamedTensor], rows: int, limits: Limits) -> None:
    """Length and encoding of every string: at once where they share a buffer, one by one where one may be broken.

    Raises RequestTooLarge, and RequestError for what is not UTF-8.
    """
    found = [values for *_, values in tensors]
    together = all(isinstance(values, Texts) and values.buffer is found[0].buffer for values in found)
    if together and (not found or (_are_short(found, limits.max_string_bytes) and are_utf8(found))):
        return
    for name, _, shape, values in tensors:
        _check_text(name, values, math.prod(shape) // rows or 1, limits)


def _are_short(texts: Sequence[Texts], most: int) -> bool:
    if len(texts[0].buffer) <= most:
        return True
    return bool(np.concatenate([part.lengths for part in texts]).max(initial=0) <= most)


def _check_text(name: str, values: Column, width: int, limits: Limits) -> None:
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


def check_finite(floats: Sequence[NamedTensor]) -> None:
    """Every number of tensors of one type, all looked at together first. Raises RequestError."""
    if floats and not np.isfinite(np.concatenate([values for *_, values in floats])).all():
        for name, _, _, values in floats:
            finite = np.isfinite(values)
            if not finite.all():
                _fail(name, values, ~finite, "must be a finite number")


def check_rules(name: str, values: Column, field: ContractField, rows: int) -> None:
    """What the contract asks of the values (n,) of a field beyond their type. Raises RequestError naming the first row that breaks it."""
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


def _missing(values: np.ndarray, field: ContractField) -> np.ndarray:
    """Which rows carry the field's fill, and so lack the field; none do where it is required."""
    if field.required:
        return np.zeros(len(values), dtype=bool)
    missing: np.ndarray = values == np.asarray(field.fill, dtype=values.dtype)
    return missing


def _fail(name: str, values: np.ndarray, bad: np.ndarray, rule: str) -> None:
    row = int(bad.argmax())
    value = values[row]
    told = value.decode(errors="replace") if isinstance(value, bytes) else value
    raise RequestError(f"row {row}, field `{name}`: {rule}; got {shown(told)}", field=name, row=row)
