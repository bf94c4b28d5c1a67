"""Point-in-time aggregates: what was known of a user or an ad strictly before each impression, and at the end of the data.

An event is an impression, with the instant its click came, if one did. For an id and an instant t, with a window w,

    n = events of the id with t - w <= shown < t        c = those of them with clicked < t

(`clickmill.contract.Aggregate` says what becomes of n and c). So nothing of the instant t itself counts: two impressions of one
request do not see each other, and a click that comes later than t is not known yet, however early its impression.

Computed by one sweep per id field. Each event counts in n for t in (shown, shown + w], and in c for t in (clicked, shown + w]: a
step up and a step down on a line of time, where t itself is asked for before the steps of its own instant. Sorting all steps and
questions by time and summing up answers every question in O(n log n); the expressions are ibis, DuckDB spills the sort.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import ibis

from clickmill.contract import ContractField, FeatureContract, Measure, Role
from clickmill.data import engine
from clickmill.data.attribution import label_of
from clickmill.data.conform import IBIS_TYPES, UTC_MICROSECONDS
from clickmill.data.formats import ROW

CLICKED_AT = "__clicked_at__"
"""Column with the time of the click, null where there is none, for contracts without a click_time field."""

Fields = Mapping[str, ContractField]


@ibis.udf.scalar.builtin(name="epoch_us")
def _microseconds(instant: UTC_MICROSECONDS) -> int:  # type: ignore[valid-type,empty-body]
    """DuckDB: microseconds since 1970."""


def aggregates_of(contract: FeatureContract) -> dict[str, Fields]:
    """The contract's aggregates by the id field whose past they are."""
    kept = {
        by: {name: f for name, f in fields.items() if f.aggregate} for by, fields in contract.entities.items()
    }
    return {by: fields for by, fields in kept.items() if fields}


def events_of(impressions: ibis.Table, contract: FeatureContract, attribution: timedelta) -> ibis.Table:
    """What the past is made of, kept as a temporary table: `row`, `shown` and `clicked` (int64, microseconds since 1970 UTC; null
    where there was no click), and the id fields under their own names.

    impressions: labelled rows with `__row__`. The time of a click is the contract's click_time field, else `__clicked_at__`. A click
    without a time is taken to be known only when the attribution window closed: never too early.
    """
    label = impressions[label_of(contract)].cast("boolean")
    shown = _microseconds(impressions[str(contract.of_role(Role.EVENT_TIME))])
    latest = shown + round(attribution.total_seconds() * 1e6)
    source = contract.of_role(Role.CLICK_TIME) or CLICKED_AT
    known = (
        ibis.coalesce(_microseconds(impressions[source]), latest) if source in impressions.columns else latest
    )
    return _kept(
        impressions.select(
            row=impressions[ROW],
            shown=shown,
            # A clock that runs behind must not make a click known before its impression.
            clicked=label.ifelse(ibis.greatest(known, shown), ibis.null("int64")),
            **{by: impressions[by] for by in aggregates_of(contract)},
        ),
        "events",
    )


def with_aggregates(impressions: ibis.Table, events: ibis.Table, contract: FeatureContract) -> ibis.Table:
    """The impressions with the contract's aggregates as columns; null where the id is missing, which takes the default.

    impressions: rows with `__row__`; events: from `events_of`, over these and maybe more rows.
    """
    answered = impressions.drop(
        *(n for n, f in contract.columns.items() if f.aggregate and n in impressions.columns)
    )
    for by, fields in aggregates_of(contract).items():
        questions = events.filter(events[by].notnull()).select(ask=events.row, id=events[by], at=events.shown)
        found = _kept(_answers(events, questions, by, fields), "aggregates")
        right = found.rename(__ask__="ask").drop("id")
        answered = answered.left_join(right, answered[ROW] == right["__ask__"]).drop("__ask__")
    return answered


def aggregates_at(events: ibis.Table, by: str, fields: Fields, as_of: datetime) -> ibis.Table:
    """`id` and the aggregates of every id that was shown in the longest window before `as_of`: what an impression at that very
    instant would have. Ids that are not there have no past, so that their values are the defaults."""
    at = round(as_of.timestamp() * 1e6)
    longest = max(_microseconds_of(f) for f in fields.values())
    known = events.filter(events[by].notnull() & (events.shown < at) & (events.shown >= at - longest))
    questions = (
        known.select(id=known[by])
        .distinct()
        .mutate(ask=ibis.literal(0, "int64"), at=ibis.literal(at, "int64"))
    )
    return _answers(events, questions.select("ask", "id", "at"), by, fields).drop("ask")


def _answers(events: ibis.Table, questions: ibis.Table, by: str, fields: Fields) -> ibis.Table:
    """`ask`, `id` and a column per field for each question (ask, id, at in microseconds)."""
    windows = sorted({_microseconds_of(f) for f in fields.values()})
    own = events.filter(events[by].notnull())
    own = own.select(id=own[by], shown=own.shown, clicked=own.clicked)
    none = {f"n{w}": 0 for w in windows} | {f"c{w}": 0 for w in windows}
    ask = {"ask": ibis.null("int64"), "order": 1}
    shown = own.select(id=own.id, at=own.shown, **ask, **none | {f"n{w}": 1 for w in windows})
    came = own.filter(own.clicked.notnull())
    clicked = came.select(
        id=came.id,
        at=came.clicked,
        **ask,
        **none | {f"c{w}": (came.clicked < came.shown + w).cast("int64") for w in windows},
    )
    # Steps after the last question answer none: with a window as long as the log that is all of them.
    last = engine.one_row(questions.aggregate(at=questions["at"].max()))["at"] or 0
    left = [
        own.filter(own.shown < last - w).select(
            id=own.id,
            at=own.shown + w,
            **ask,
            **none | {f"n{w}": -1, f"c{w}": -(own.clicked < own.shown + w).fill_null(False).cast("int64")},
        )
        for w in windows
    ]
    asked = questions.select(id=questions.id, at=questions.at, ask=questions.ask, order=0, **none)
    steps = ibis.union(*(_typed(part, none) for part in (asked, shown, clicked, *left)))
    so_far = ibis.cumulative_window(group_by="id", order_by=["at", "order"])
    summed = steps.select("ask", "id", "order", **{name: steps[name].sum().over(so_far) for name in none})
    found = summed.filter(summed.order == 0)
    return found.select("ask", "id", **{name: _value(found, f) for name, f in fields.items()})


def _typed(part: ibis.Table, counts: Mapping[str, int]) -> ibis.Table:
    # Steps are doubles, which count exactly up to 2^53: DuckDB's sum of integers has 128 bits, which Parquet does not know.
    types = dict.fromkeys(("ask", "at", "order"), "int64") | dict.fromkeys(counts, "float64")
    return part.select("id", **{name: part[name].cast(kind) for name, kind in types.items()})


def _value(found: ibis.Table, field: ContractField) -> Any:
    assert field.aggregate is not None
    assert field.dtype is not None
    w = _microseconds_of(field)
    n, c = found[f"n{w}"], found[f"c{w}"]
    kind = IBIS_TYPES[field.dtype]
    if field.aggregate.of is not Measure.CTR:
        return (n if field.aggregate.of is Measure.IMPRESSIONS else c).cast(kind)
    prior = float(field.fill)  # type: ignore[arg-type]
    # (c + s d) / (n + s), written so that it is d to the last bit where there are no events
    return (prior + (c - n * prior) / (n + field.aggregate.prior_weight)).cast(kind)


def _microseconds_of(field: ContractField) -> int:
    assert field.aggregate is not None
    return round(field.aggregate.window.total_seconds() * 1e6)


def _kept(table: ibis.Table, name: str) -> ibis.Table:
    # Four splits are written from it, each of which would compute it again.
    return engine.backend_of(table).create_table(f"{name}_{uuid.uuid4().hex}", table, temp=True)
