"""From the source's columns to the contract's: renamed, typed, and what could not be read kept beside the row.

Text cells are parsed; a cell that is not of its type becomes null and its text goes to `__unparsed__.<field>`, so that
the check can put the row into quarantine with the very text. Columns with types of their own are only cast where
nothing is lost; what never fits (text in a number column) is a SchemaMismatch, at once and for the whole file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from clickmill.contract import ContractField, Dtype, FeatureContract, Role
from clickmill.data.formats import MALFORMED, ROW, Scanned
from clickmill.errors import SchemaMismatch

UNPARSED = "__unparsed__"
"""Struct column: per field that may fail to parse, the offending text, or null."""

OPTIONAL_ROLES = frozenset({Role.CLICK_TIME, Role.TRUTH, Role.PROPENSITY})
"""Fields a log need not have: they are null where they are absent."""

UTC_MICROSECONDS = dt.Timestamp(timezone="UTC", scale=6)
IBIS_TYPES: dict[Dtype, dt.DataType] = {
    Dtype.STRING: dt.string,
    Dtype.INT64: dt.int64,
    Dtype.FLOAT32: dt.float32,
    Dtype.BOOL: dt.boolean,
    Dtype.TIMESTAMP: UTC_MICROSECONDS,
    Dtype.STRING_LIST: dt.Array(dt.string),
    Dtype.INT64_LIST: dt.Array(dt.int64),
    Dtype.FLOAT32_LIST: dt.Array(dt.float32),
}
_EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_SHOWN = 80
"""Characters of an offending cell that are kept."""


@ibis.udf.scalar.builtin(name="try_strptime")
def _try_strptime(text: str, layout: str) -> dt.Timestamp(scale=6):  # type: ignore[valid-type]
    """DuckDB: null where the text is not of the layout."""


@ibis.udf.scalar.builtin(name="make_timestamptz")
def _from_microseconds(microseconds: int) -> UTC_MICROSECONDS:  # type: ignore[valid-type]
    """DuckDB: the instant so many microseconds after 1970-01-01 UTC."""


def conform(
    scanned: Scanned, contract: FeatureContract, fields: Mapping[str, ContractField], origin: str
) -> ibis.Table:
    """Columns of `fields` in order, `__row__`, then `__unparsed__` and `__malformed__` where there is anything to note.

    Raises SchemaMismatch naming every column that is missing or has an impossible type.
    """
    source = scanned.table
    columns: dict[str, Any] = {}
    unparsed: dict[str, Any] = {}
    problems: list[str] = []
    by_lower = {column.lower(): column for column in source.columns}
    for name, field in fields.items():
        assert field.dtype is not None
        wanted = field.column or name
        found = wanted if wanted in source.columns else by_lower.get(wanted.lower())
        if found is None:
            if field.role is Role.EVENT_TIME and scanned.clockless:
                columns[name] = _from_microseconds(source[ROW] * 1_000_000)
            elif field.role in OPTIONAL_ROLES or field.aggregate is not None:
                columns[name] = ibis.null(IBIS_TYPES[field.dtype])
            else:
                problems.append(_missing(name, field, wanted, source.columns))
            continue
        cell = source[found]
        try:
            value, fallible = _typed(cell, field.dtype, scanned, contract)
        except _Unfit as unfit:
            problems.append(f"column `{found}` (field `{name}`): {unfit}")
            continue
        columns[name] = value
        if fallible:
            text = cell if cell.type().is_string() else cell.cast("string")
            unparsed[name] = (cell.notnull() & value.isnull()).ifelse(
                text.substr(0, _SHOWN), ibis.null("string")
            )
    if problems:
        count = f"{len(problems)} columns do" if len(problems) > 1 else "a column does"
        raise SchemaMismatch(
            f"{origin}: {count} not fit contract `{contract.name}`\n  " + "\n  ".join(problems)
        )
    columns[ROW] = source[ROW]
    if unparsed:
        columns[UNPARSED] = ibis.struct(unparsed)
    if MALFORMED in source.columns:
        columns[MALFORMED] = source[MALFORMED]
    return source.select(**columns)


class _Unfit(Exception):
    """A column's physical type can never be the contract's."""


def _missing(name: str, field: ContractField, wanted: str, available: Sequence[str]) -> str:
    shown = [column for column in available if not column.startswith("__")]
    close = difflib.get_close_matches(wanted, shown, n=3, cutoff=0.5) or difflib.get_close_matches(
        wanted.lower(), [c.lower() for c in shown], n=3, cutoff=0.5
    )
    hint = (
        f"nearest: {', '.join(close)}" if close else f"the data has {', '.join(shown[:12]) or 'no columns'}"
    )
    if not close and len(shown) > 12:
        hint += f" and {len(shown) - 12} more"
    also = ", or give the click log that the label comes from (`clicks`)" if field.role is Role.LABEL else ""
    return (
        f"column `{wanted}` (field `{name}`, {field.dtype}) is missing; {hint}. "
        f"Name the right column in `fields.{name}.column`, or remove the field{also}"
    )


def _typed(cell: Any, dtype: Dtype, scanned: Scanned, contract: FeatureContract) -> tuple[Any, bool]:
    """The cell as the contract's type, and whether a single value may fail."""
    found = cell.type()
    if found.is_null():
        return cell.cast(IBIS_TYPES[dtype]), False
    if found.is_string() and dtype is not Dtype.STRING:
        if not scanned.text:
            raise _Unfit(_advice(found, dtype))
        return _parsed(cell, dtype, scanned, contract), True
    if dtype is Dtype.TIMESTAMP:
        return _time(cell, found, scanned, contract), False
    if found == IBIS_TYPES[dtype] or (dtype is Dtype.STRING and found.is_string()):
        return cell, False
    if dtype is Dtype.STRING and (found.is_integer() or found.is_boolean() or found.is_uuid()):
        return cell.cast("string"), False
    if dtype is Dtype.INT64 and (found.is_boolean() or (found.is_integer() and found != dt.uint64)):
        return cell.cast("int64"), False
    if dtype is Dtype.INT64 and (found.is_numeric() or found == dt.uint64):
        # pandas writes whole numbers with gaps as floats; only a value with a fraction is at fault, not the column.
        whole = cell.try_cast("int64")
        return (cell == cell.round()).ifelse(whole, ibis.null("int64")), True
    if dtype is Dtype.FLOAT32 and found.is_integer():
        return cell.cast("float32"), False
    if dtype is Dtype.FLOAT32 and found.is_numeric():
        return cell.try_cast("float32"), True
    if dtype is Dtype.BOOL and found.is_integer():
        return cell.isin([0, 1]).ifelse(cell.cast("boolean"), ibis.null("boolean")), True
    if dtype.is_list and found.is_array():
        inner = found.value_type
        if dtype is Dtype.STRING_LIST and (inner.is_string() or inner.is_integer()):
            return cell.cast(IBIS_TYPES[dtype]), False
        if dtype is Dtype.INT64_LIST and inner.is_integer() and inner != dt.uint64:
            return cell.cast(IBIS_TYPES[dtype]), False
        if dtype is Dtype.FLOAT32_LIST and inner.is_numeric():
            return cell.cast(IBIS_TYPES[dtype]), False
        if dtype is not Dtype.STRING_LIST and inner.is_string() and scanned.text:
            return cell.try_cast(IBIS_TYPES[dtype]), True
    raise _Unfit(_advice(found, dtype))


def _advice(found: dt.DataType, dtype: Dtype) -> str:
    return (
        f"holds {found}, the contract says {dtype}, and no lossless cast leads there; "
        "write the column with that type, or change the field's dtype"
    )


def _parsed(cell: Any, dtype: Dtype, scanned: Scanned, contract: FeatureContract) -> Any:
    if dtype is Dtype.INT64:
        # DuckDB rounds '0.7' to 1 on the way to an integer: a label of 0.7 is not a click.
        whole = cell.try_cast("int64")
        return (cell.try_cast("float64") == whole.cast("float64")).ifelse(whole, ibis.null("int64"))
    if dtype is Dtype.TIMESTAMP:
        layout = contract.source.timestamp_format or scanned.timestamp_format
        if layout in _EPOCHS:
            return _from_microseconds((cell.try_cast("float64") * _EPOCHS[layout]).round().cast("int64"))
        if layout is not None:
            return _try_strptime(cell, layout).cast(UTC_MICROSECONDS)
        return cell.try_cast(UTC_MICROSECONDS)
    if dtype.is_list:
        items = cell.split(contract.source.list_delimiter)
        return items if dtype is Dtype.STRING_LIST else items.try_cast(IBIS_TYPES[dtype])
    return cell.try_cast(IBIS_TYPES[dtype])


def _time(cell: Any, found: dt.DataType, scanned: Scanned, contract: FeatureContract) -> Any:
    if found.is_timestamp() or found.is_date():
        return cell.cast(UTC_MICROSECONDS)
    layout = contract.source.timestamp_format or scanned.timestamp_format
    if found.is_numeric() and layout in _EPOCHS:
        factor = _EPOCHS[layout]
        scaled = cell * factor if found.is_integer() else (cell * float(factor)).round()
        return _from_microseconds(scaled.cast("int64"))
    if found.is_numeric():
        raise _Unfit(
            f"holds {found}, the contract says timestamp; if these are seconds, milliseconds or microseconds since "
            "1970, say so in `source.timestamp_format`: epoch_s, epoch_ms or epoch_us"
        )
    raise _Unfit(_advice(found, Dtype.TIMESTAMP))
