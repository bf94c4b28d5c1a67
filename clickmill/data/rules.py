"""What makes a row bad: the rules a contract implies, each as one boolean expression over the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis

from clickmill.contract import ContractField, Dtype, FeatureContract, Range, Role
from clickmill.data.conform import UNPARSED
from clickmill.data.formats import MALFORMED

_IMPLIED_RANGES: dict[Role, Range] = {
    Role.POSITION: Range(min=1),
    Role.WEIGHT: Range(min=0),
    Role.BID: Range(min=0),
    Role.TRUTH: Range(min=0, max=1),
}
"""What a role means for a number, where the contract gives no range of its own."""

_NEVER_NULL = frozenset({Role.EVENT_TIME, Role.LABEL, Role.IMPRESSION_ID})
"""Without its time, label or key an impression has no place in a split, a loss or a join."""


@dataclass(frozen=True)
class Rule:
    """One way in which a row breaks the contract."""

    field: str
    """Name of the field; `(line)` for a line that is broken as a whole."""
    text: str
    """The rule in words or symbols: `1 <= position <= 20`."""
    broken: Any
    """Boolean expression, never null."""
    value: Any
    """The offending value as text."""
    remedy: str


def rules_of(table: ibis.Table, contract: FeatureContract, *, latest: datetime) -> list[Rule]:
    """All rules that can fail on the columns this table has, in the order of the fields. `latest`: newest legal event time."""
    rules: list[Rule] = []
    if MALFORMED in table.columns:
        line = table[MALFORMED]
        rules.append(
            Rule(
                "(line)",
                f"a line of format {contract.source.format.value}",
                line.notnull(),
                line.substr(0, 120),
                "Correct these lines in the source, or `source.format` in the contract.",
            )
        )
    fallible = table[UNPARSED].type().names if UNPARSED in table.columns else ()
    for name, field in contract.columns.items():
        if name not in table.columns:
            continue
        unparsed = table[UNPARSED][name] if name in fallible else None
        if unparsed is not None:
            rules.append(_parses(name, field, unparsed))
        rules.extend(_rules_of_field(table[name], name, field, unparsed))
        if field.role is Role.EVENT_TIME:
            rules.append(
                Rule(
                    name,
                    f"{name} <= {latest:%Y-%m-%d %H:%M} UTC",
                    _true(table[name] > latest),
                    table[name].cast("string"),
                    "An impression can't come from the future: correct the clock of its writer (or `latest`).",
                )
            )
        event_time = contract.of_role(Role.EVENT_TIME)
        if field.role is Role.CLICK_TIME and event_time in table.columns:
            rules.append(
                Rule(
                    name,
                    f"{event_time} <= {name}",
                    _true(table[name] < table[event_time]),
                    table[name].cast("string"),
                    "A click can't come before its impression: correct the clocks of the two logs.",
                )
            )
    return rules


def _parses(name: str, field: ContractField, unparsed: Any) -> Rule:
    remedy = f"Correct these cells, or change `fields.{name}.dtype` if they are right."
    if field.dtype is Dtype.TIMESTAMP:
        remedy = f"If these are right, describe them in `source.timestamp_format`; it serves `{name}`."
    return Rule(name, f"{name} is {field.dtype}", unparsed.notnull(), unparsed, remedy)


def _rules_of_field(cell: Any, name: str, field: ContractField, unparsed: Any | None) -> list[Rule]:
    rules = []
    text = cell.cast("string")
    if field.required or field.role in _NEVER_NULL:
        missing = cell.isnull() if unparsed is None else cell.isnull() & unparsed.isnull()
        may = "" if field.role in _NEVER_NULL else f", or drop `fields.{name}.required`"
        rules.append(
            Rule(name, f"{name} is present", missing, ibis.literal("nothing"), f"Fill it in the source{may}.")
        )
    finite = None
    if field.dtype is Dtype.FLOAT32:
        finite = ~(cell.isnan() | cell.isinf())
        rules.append(
            Rule(
                name,
                f"{name} is finite",
                _true(~finite),
                text,
                "Write a missing number as null (it takes the default), not as NaN or infinity.",
            )
        )
    if field.role is Role.LABEL and field.dtype is Dtype.INT64:
        rules.append(
            Rule(
                name,
                f"{name} is 0 or 1",
                _true((cell != 0) & (cell != 1)),
                text,
                "1 is a click, 0 is none: a count of clicks or a rating is another field.",
            )
        )
    bounds = field.range or _IMPLIED_RANGES.get(field.role)
    if bounds is not None:
        rules.append(_within(cell, name, bounds, finite, text))
    if field.allowed is not None:
        shown = ", ".join(str(value) for value in field.allowed[:8]) + (
            ", ..." if len(field.allowed) > 8 else ""
        )
        rules.append(
            Rule(
                name,
                f"{name} is one of {shown}",
                _true(cell.notin(list(field.allowed))),
                text,
                f"If these are legal values, add them to `fields.{name}.allowed`.",
            )
        )
    if field.dtype is not None and field.dtype.is_list:
        rules.append(
            Rule(
                name,
                f"no item of {name} is null",
                _true(cell.length() != cell.filter(lambda item: item.notnull()).length()),
                text.substr(0, 120),
                "Leave missing items out of the list.",
            )
        )
    return rules


def _within(cell: Any, name: str, bounds: Range, finite: Any | None, text: Any) -> Rule:
    outside = ibis.literal(False)
    written = name
    if bounds.min is not None:
        outside = outside | (cell < bounds.min)
        written = f"{bounds.min:g} <= {written}"
    if bounds.max is not None:
        outside = outside | (cell > bounds.max)
        written = f"{written} <= {bounds.max:g}"
    if finite is not None:
        outside = outside & finite
    return Rule(
        name,
        written,
        _true(outside),
        text,
        f"If these are legal values, change `fields.{name}.range` in the contract.",
    )


def _true(condition: Any) -> Any:
    return condition.fill_null(False)
