"""Single values of a request: what a field's type and rules make of one, or say against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from clickmill.contract import ContractField, Dtype

_INT64 = np.iinfo(np.int64)
FLOAT32_MAX = float(np.finfo(np.float32).max)
_YEAR_10000 = 253_402_300_800
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Broken(Exception):
    """A rule of the contract, in words, that a value breaks."""


def text_of(value: Any) -> bytes:
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Broken("holds a lone surrogate, which is not Unicode text; send valid UTF-8") from None
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    raise Broken(f"must be a string; got {shown(value)}")


def integer_of(value: Any) -> int:
    if type(value) is not int:
        if not isinstance(value, np.integer):
            hint = (
                f"; send {int(value)}"
                if isinstance(value, float) and math.isfinite(value) and value == int(value)
                else ""
            )
            raise Broken(f"must be an integer; got {shown(value)}{hint}")
        value = int(value)
    if not _INT64.min <= value <= _INT64.max:
        raise Broken(f"must fit in 64 bits; got {value}")
    return value


def _float32(value: Any) -> float:
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise Broken(f"must be a number; got {shown(value)}")
        try:
            value = float(value)
        except OverflowError:
            raise Broken("is too large for float32") from None
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        raise Broken(
            f"is too large for float32: {value}" if math.isfinite(value) else f"must be finite; got {value}"
        )
    return value


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise Broken(f"must be true or false; got {shown(value)}")


def _timestamp(value: Any) -> int:
    """Whole seconds since 1970 UTC, rounded down."""
    if isinstance(value, str | bytes):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Broken(f"must be an ISO 8601 time or seconds since 1970; got {shown(text)}") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return math.floor((moment - _EPOCH).total_seconds())
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return math.floor((moment - _EPOCH).total_seconds())
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise Broken(f"must be an ISO 8601 time or seconds since 1970; got {shown(value)}")
    if not math.isfinite(value):
        raise Broken(f"must be finite; got {value}")
    if not -_YEAR_10000 < value < _YEAR_10000:
        raise Broken(f"lies beyond the year 9999: {value}; send seconds, not milli- or microseconds")
    return math.floor(value)


PARSERS: dict[Dtype, Callable[[Any], Any]] = {
    Dtype.STRING: text_of,
    Dtype.INT64: integer_of,
    Dtype.FLOAT32: _float32,
    Dtype.BOOL: _bool,
    Dtype.TIMESTAMP: _timestamp,
}
JSON_TYPES: dict[Dtype, frozenset[type]] = {
    Dtype.STRING: frozenset({str}),
    Dtype.INT64: frozenset({int}),
    Dtype.FLOAT32: frozenset({float, int}),
    Dtype.BOOL: frozenset({bool}),
}
"""Types a JSON parser gives for the dtypes that can be read a column at once."""
NUMPY: dict[Dtype, Any] = {
    Dtype.STRING: object,
    Dtype.INT64: np.int64,
    Dtype.FLOAT32: np.float32,
    Dtype.BOOL: np.bool_,
    Dtype.TIMESTAMP: np.int64,
}


def rule_of(f: ContractField) -> Callable[[Any], None] | None:
    """Check of `range` and `allowed` on a parsed value, or None when the field has neither."""
    bounds = f.range
    if bounds is not None:
        low = -math.inf if bounds.min is None else bounds.min
        high = math.inf if bounds.max is None else bounds.max

        def within(value: float) -> None:
            if not low <= value <= high:
                raise Broken(f"must lie in {low:g} to {high:g}; got {value:g}")

        if f.allowed is None:
            return within
    if f.allowed is None:
        return None
    legal = frozenset(value.encode() if isinstance(value, str) else value for value in f.allowed)
    told = ", ".join(str(value) for value in f.allowed[:10]) + (", ..." if len(f.allowed) > 10 else "")

    def among(value: Any) -> None:
        if value not in legal:
            raise Broken(f"must be one of {told}; got {shown(value)}")
        if bounds is not None:
            within(value)

    return among


def shown(value: Any) -> str:
    """The value, shortened, in JSON's words where it has them."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    word = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return word if len(word) <= 60 else word[:57] + "..."
