"""From JSON-like requests to raw tensors, refusing what the contract forbids. On the latency path of every prediction.

Each field's reader is compiled once per contract. A reader takes the field's values of all rows as one list; many plain and
legal ones become an array at once, all else is read value by value, which finds the row and the words of what is wrong.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from clickmill.contract import ContractField, Dtype, FeatureContract, ListOf
from clickmill.errors import RequestError
from clickmill.features.request_values import (
    FLOAT32_MAX,
    JSON_TYPES,
    NUMPY,
    PARSERS,
    Broken,
    integer_of,
    rule_of,
    shown,
    text_of,
)
from clickmill.features.texts import PADDING, Column, Texts, arrays

PAD_INT64 = int(np.iinfo(np.int64).min)
"""Pads lists of integers; no identifier has this value."""

Raw = dict[str, np.ndarray]
Reader = Callable[[Sequence[Any]], np.ndarray]
"""Values of one field, a row each, None where missing, to the field's raw tensor."""


def from_rows(
    rows: Sequence[Mapping[str, Any]], contract: FeatureContract, *, only: Container[str] | None = None
) -> Raw:
    """As `columns_of_rows`, with each text an object array."""
    return arrays(columns_of_rows(rows, contract, only=only))


def columns_of_rows(
    rows: Sequence[Mapping[str, Any]],
    contract: FeatureContract,
    *,
    only: Container[str] | None = None,
    beside: Container[str] = (),
) -> dict[str, Column]:
    """Rows as decoded from JSON to raw tensors, of all inputs or of those in `only`; missing fields and nulls take `ContractField.fill`.

    Strings are str or bytes, timestamps ISO 8601 strings (UTC when they name no zone) or seconds since 1970. Other columns of
    the contract (label, ids, bid) and the names in `beside` may be present and are ignored; lists that are too long keep their last items.
    Many rows that are alike give their strings as `Texts`.
    Raises RequestError naming row (0-based), field and rule on the first problem: unknown field, wrong type, missing
    required value, out of range, not allowed, NaN or infinite.
    """
    form = _form(contract)
    if (columns := _columns(rows, form.known, beside)) is not None:
        return _read_together(form, columns, len(rows), only)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RequestError(f"row {number}: must be an object of fields; got {shown(row)}", row=number)
        if not row.keys() <= form.known and any(
            name not in form.known and name not in beside for name in row
        ):
            raise form.unknown([name for name in row if name not in beside], number)
    readers = form.readers if only is None else [(name, read) for name, read in form.readers if name in only]
    if len(rows) == 1:
        row = rows[0]
        return {name: reader((row.get(name),)) for name, reader in readers}
    return {name: reader([row.get(name) for row in rows]) for name, reader in readers}


def _columns(
    rows: Sequence[Any], known: frozenset[str], beside: Container[str]
) -> dict[str, tuple[Any, ...]] | None:
    """Many rows that all name the same known fields in the same order, as columns; None for others. Most clients make rows in a loop,
    and then no field need be looked for in each of them."""
    if len(rows) < _MANY or set(map(type, rows)) != {dict}:
        return None
    names = tuple(rows[0])
    if any(name not in known and name not in beside for name in names):
        return None
    if list(map(tuple, rows)).count(names) != len(rows):
        return None
    return dict(zip(names, zip(*map(dict.values, rows), strict=True), strict=True))


def _read_together(
    form: _Form, columns: Mapping[str, Sequence[Any]], rows: int, only: Container[str] | None
) -> dict[str, Column]:
    """All columns of one kind at once where they are whole and legal; each of the others by its own reader."""
    asked = [name for name, _ in form.readers if only is None or name in only]
    raw: dict[str, Column] = {}
    there = [name for name in asked if name in columns]
    for take in (_texts_together, _floats_together):
        raw |= take(form, {name: columns[name] for name in there}, rows)
    absent = [None] * rows
    return {name: raw[name] if name in raw else form.read[name](columns.get(name, absent)) for name in asked}


_SEPARATOR = "\0"
"""Between strings that are put together. One that holds it is found out by their number."""


def _texts_together(form: _Form, columns: Mapping[str, Sequence[Any]], rows: int) -> dict[str, Column]:
    names, joined = [], []
    for name, legal in form.texts.items():
        values = columns.get(name)
        if values is None:
            continue
        try:
            text = _SEPARATOR.join(values)
        except TypeError:  # a null, or no string
            continue
        if legal is None or legal.issuperset(values):
            names.append(name)
            joined.append(text)
    try:
        whole = _SEPARATOR.join(joined).encode()
    except UnicodeEncodeError:
        return {}
    ends = np.append(np.flatnonzero(np.frombuffer(whole, np.uint8) == ord(_SEPARATOR)), len(whole))
    if len(ends) != rows * len(names):
        return {}
    starts = np.concatenate([[0], ends[:-1] + 1])
    buffer, shape = whole + PADDING, (len(names), rows)
    parts = zip(starts.reshape(shape), (ends - starts).reshape(shape), strict=True)
    return {name: Texts(buffer, *part) for name, part in zip(names, parts, strict=True)}


_NUMBERS = frozenset({float, int})


def _floats_together(form: _Form, columns: Mapping[str, Sequence[Any]], rows: int) -> dict[str, Column]:
    names = [n for n in form.floats if n in columns and _NUMBERS.issuperset(map(type, columns[n]))]
    try:
        # held to their range as the doubles they were sent as, before they are rounded to float32
        values = np.array([columns[name] for name in names], np.float64).reshape(len(names), rows)
    except OverflowError:
        return {}
    low, high = np.array([form.floats[name] for name in names]).reshape(-1, 2, 1).swapaxes(0, 1)
    legal = np.atleast_1d(((values >= low) & (values <= high)).all(axis=1))
    with np.errstate(over="ignore"):  # of those that are left out
        found = values.astype(np.float32)
    return {name: column for name, column, kept in zip(names, found, legal, strict=True) if kept}


def from_columns(columns: Mapping[str, Sequence[Any]], contract: FeatureContract, rows: int) -> Raw:
    """As `from_rows`, for requests that come by column: {field: values of all `rows` rows}, absent columns filled.

    Raises RequestError as `from_rows` does, and when a column has another number of values than `rows`.
    """
    form = _form(contract)
    if not columns.keys() <= form.known:
        raise form.unknown(columns.keys(), None)
    for name, values in columns.items():
        if len(values) != rows:
            raise RequestError(
                f"field `{name}`: has {len(values)} values, the request has {rows} rows", field=name
            )
    absent = [None] * rows
    return {name: reader(columns.get(name, absent)) for name, reader in form.readers}


class _Form:
    """What a contract asks of a request, compiled."""

    def __init__(self, contract: FeatureContract) -> None:
        self.contract = contract
        self.known = frozenset(contract.columns)
        self.inputs = tuple(contract.inputs)
        self.readers = tuple((name, _reader(name, f)) for name, f in contract.inputs.items())
        self.read = dict(self.readers)
        inputs = contract.inputs.items()
        self.texts = {
            name: None if f.allowed is None else frozenset(map(str, f.allowed))
            for name, f in inputs
            if f.dtype is Dtype.STRING
        }
        """Strings, with what is allowed of each."""
        self.floats = {
            name: _bounds(f) for name, f in inputs if f.dtype is Dtype.FLOAT32 and f.allowed is None
        }
        """Numbers, with the least and the most of each."""

    def unknown(self, names: Iterable[str], row: int | None) -> RequestError:
        where = "" if row is None else f"row {row}, "
        strangers = [name for name in names if name not in self.known]
        told = []
        for name in strangers[:5]:
            # difflib takes seconds for a name of megabytes, which no field is like
            near = difflib.get_close_matches(str(name)[:_LONGEST_NAME], self.inputs, n=3)
            hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else "remove it"
            told.append(f"field {_named(name)} is unknown; {hint}")
        more = f" (and {len(strangers) - 5} more)" if len(strangers) > 5 else ""
        problems = f"{where}{'; '.join(told)}{more}"
        end = "" if problems.endswith("?") else "."
        words = f"{problems}{end} Fields of a request: {', '.join(self.inputs)}"
        return RequestError(words, field=strangers[0], row=row)


_FORMS: dict[int, _Form] = {}
_MOST_FORMS = 32


def _form(contract: FeatureContract) -> _Form:
    # By identity: a contract's digest takes longer than reading a request. The form keeps its contract alive, so ids stay taken.
    form = _FORMS.get(id(contract))
    if form is None:
        if len(_FORMS) >= _MOST_FORMS:
            _FORMS.clear()
        form = _FORMS[id(contract)] = _Form(contract)
    return form


def _reader(name: str, f: ContractField) -> Reader:
    assert f.dtype is not None
    if f.dtype.is_list:
        return _list_reader(name, f)
    parse = PARSERS[f.dtype]
    check = rule_of(f)
    dtype = NUMPY[f.dtype]
    fill = f.fill.encode() if isinstance(f.fill, str) else f.fill
    required = f.required
    at_once = _at_once(f)

    def read(values: Sequence[Any]) -> np.ndarray:
        if len(values) >= _MANY and (column := at_once(values)) is not None:
            return column
        parsed = []
        for number, value in enumerate(values):
            if value is None:
                if required:
                    raise RequestError(
                        f"row {number}, field `{name}`: is required and has no default; send a value",
                        field=name,
                        row=number,
                    )
                parsed.append(fill)
                continue
            try:
                value = parse(value)
                if check is not None:
                    check(value)
            except Broken as problem:
                raise RequestError(
                    f"row {number}, field `{name}`: {problem}", field=name, row=number
                ) from None
            parsed.append(value)
        return np.array(parsed, dtype=dtype)

    return read


_MANY = 16
"""Rows from which reading a column at once is quicker than value by value; below, numpy's own start costs more."""


def _bounds(f: ContractField) -> tuple[float, float]:
    low = -math.inf if f.range is None or f.range.min is None else f.range.min
    high = math.inf if f.range is None or f.range.max is None else f.range.max
    return (max(low, -FLOAT32_MAX), min(high, FLOAT32_MAX)) if f.dtype is Dtype.FLOAT32 else (low, high)


def _at_once(f: ContractField) -> Callable[[Sequence[Any]], np.ndarray | None]:
    """Reader of a column whose present values are all of JSON's own type and legal, 3 times as quick as one by one.

    None for any other column: the careful way then reads it, or finds the row and the words.
    """
    assert f.dtype is not None
    kinds = JSON_TYPES.get(f.dtype)
    if kinds is None:
        return lambda values: None
    dtype = NUMPY[f.dtype]
    fill = f.fill.encode() if isinstance(f.fill, str) else f.fill
    legal = (
        None if f.allowed is None else frozenset(v.encode() if isinstance(v, str) else v for v in f.allowed)
    )
    low, high = _bounds(f)

    def present(values: Sequence[Any]) -> np.ndarray | None:
        if not kinds.issuperset(map(type, values)):
            return None
        try:
            parsed: Sequence[Any] = list(map(str.encode, values)) if f.dtype is Dtype.STRING else values
            # a float is held to its range as the double it was sent as, before it is rounded to float32
            column = np.array(parsed, dtype=np.float64 if f.dtype is Dtype.FLOAT32 else dtype)
        except (UnicodeEncodeError, OverflowError):
            return None
        if legal is not None and not legal.issuperset(parsed):
            return None
        if f.dtype.is_number and not ((column >= low) & (column <= high)).all():  # type: ignore[union-attr]
            return None
        return column.astype(dtype, copy=False)

    def read(values: Sequence[Any]) -> np.ndarray | None:
        if None not in values:
            return present(values)
        if f.required:
            return None
        there = [value is not None for value in values]
        found = present([value for value in values if value is not None])
        if found is None:
            return None
        column = np.full(len(values), fill, dtype=dtype)
        column[there] = found
        return column

    return read


def _list_reader(name: str, f: ContractField) -> Reader:
    assert isinstance(f.encoding, ListOf)
    assert isinstance(f.fill, tuple)
    length = f.encoding.max_length
    string = f.dtype is Dtype.STRING_LIST
    parse: Callable[[Any], Any] = text_of if string else integer_of
    pad: Any = b"" if string else PAD_INT64
    allowed = rule_of(f)
    default = [item.encode() if isinstance(item, str) else item for item in f.fill]

    def items(value: Any, number: int) -> list[Any]:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
            raise RequestError(
                f"row {number}, field `{name}`: must be a list; got {shown(value)}", field=name, row=number
            )
        kept = []
        for place, item in enumerate(value):
            if item is None:
                continue
            try:
                parsed = parse(item)
                if allowed is not None:
                    allowed(parsed)
            except Broken as problem:
                raise RequestError(
                    f"row {number}, field `{name}`, item {place}: {problem}",
                    field=name,
                    row=number,
                    item=place,
                ) from None
            if parsed != pad:
                kept.append(parsed)
        return kept

    def read(values: Sequence[Any]) -> np.ndarray:
        matrix = np.full((len(values), length), pad, dtype=object if string else np.int64)
        for number, value in enumerate(values):
            if value is None and f.required:
                raise RequestError(
                    f"row {number}, field `{name}`: is required and has no default; send a list",
                    field=name,
                    row=number,
                )
            kept = (default if value is None else items(value, number))[-length:]
            if kept:
                matrix[number, : len(kept)] = kept
        return matrix

    return read


_LONGEST_NAME = 100


def _named(name: Any) -> str:
    """A name that the caller made up, shortened."""
    text = str(name)
    return f"`{text}`" if len(text) <= _LONGEST_NAME else f"`{text[: _LONGEST_NAME - 3]}...`"
