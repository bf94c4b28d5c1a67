"""A first contract from a data file: roles from names, encodings from values, each with its reason. People read it next."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from clickmill.contract import (
    ContractField,
    Dtype,
    Encoding,
    FeatureContract,
    Hash,
    Hour,
    ListOf,
    Log1p,
    Range,
    Role,
    Standardize,
    Vocabulary,
    Weekday,
)
from clickmill.data.columns import ColumnFacts, FileFacts, look_at
from clickmill.errors import ContractError

_SINGULAR: tuple[tuple[Role, tuple[str, ...]], ...] = (
    (Role.LABEL, (r"label", r"(is_)?click(ed|s)?", r"target", r"y")),
    (
        Role.EVENT_TIME,
        (
            r"event_?time",
            r"(impression|imp|shown)_?(time|at)",
            r"timestamp",
            r"time|ts|datetime",
            r"(event_?)?date",
            r"hour",
        ),
    ),
    (Role.CLICK_TIME, (r"click_?(time|timestamp|ts)", r"clicked_at")),
    (Role.IMPRESSION_ID, (r"(impression|imp)_?id", r"(event|row)_?id", r"id", r"uuid")),
    (Role.REQUEST_ID, (r"(request|query|search|auction)_?id", r"session_?id")),
    (Role.POSITION, (r"position|pos", r"slot_?(position|rank)", r"rank", r"slot")),
    (Role.BID, (r"bid(_?price)?", r"cpc")),
    (Role.WEIGHT, (r"(sample_?)?weight",)),
    (Role.TRUTH, (r"true_(p?ctr|p|probability)", r"p_true")),
)
"""Names that speak for a role, the better name first; an earlier role takes the column."""

_METADATA = r"propensity.*|.*_(note|comment|url)|pay(ing)?_?price|win_?price"
_USER = r"(u|user|uid|member|visitor|viewer|customer|cookie|device|ip|age|gender|sex|os|browser|region|city|country|geo)(_.*|id)?"
_AD = r"(ad|ads|advert.*|item|creative|campaign|advertiser|brand|product|offer|price|category|cate|headline|landing)(_.*|id)?"
_CATEGORY = r".*(_?id|code|type|category|class|segment|hour|weekday|day|month|zip|bucket|group)"
_PERSONAL = (
    r"(user_?id|uid|device_?id|ip(_.*)?|device_ip|cookie.*|email.*|phone.*|(member|visitor|customer)_?id)"
)
_INDEX = r"(column0*|unnamed.*|index|__index_level_\d+__|)"

_FEW = 1_000
"""Whole numbers with at most this many values are rather codes than quantities."""
_MANY = 1_000_000
"""Categories with more values than this are hashed: a vocabulary would not fit."""


class _Guess(NamedTuple):
    field: ContractField
    timestamp_format: str | None = None


def draft(path: Path | str, name: str | None = None) -> FeatureContract:
    """A contract that loads and reads this Parquet or CSV file (or folder), with the reason of each guess in `description`.

    No range or allowed set is guessed, except what a role implies: the next file may hold more than this one.
    Raises UnreadableData; ContractError when no column can be a feature.
    """
    facts = look_at(path)
    fields: dict[str, ContractField] = {}
    left_out: list[str] = []
    timestamp_format = None
    roles = _singular_roles(facts)
    for column in facts.columns:
        if (
            re.fullmatch(_INDEX, column.name.lower())
            and column.is_integer
            and column.distinct > 0.9 * facts.rows
        ):
            left_out.append(f"{column.name or '(unnamed)'} (a row number)")
            continue
        guess = _guess(column, roles.get(column.name), facts)
        if guess is None:
            left_out.append(f"{column.name} (a contract has no type for {column.kind})")
            continue
        field_name = re.sub(r"\W+", "_", column.name, flags=re.ASCII).strip("_") or "column"
        while field_name in fields:
            field_name += "_"
        update = {"column": column.name} if field_name != column.name else {}
        fields[field_name] = guess.field.model_copy(update=update)
        timestamp_format = timestamp_format or guess.timestamp_format
    event_time = next((n for n, f in fields.items() if f.role is Role.EVENT_TIME), None)
    if event_time is not None:
        for derived, encoding in (("hour", Hour(of=event_time)), ("weekday", Weekday(of=event_time))):
            if derived not in fields:
                fields[derived] = ContractField(
                    role=Role.CONTEXT, encoding=encoding, description=f"Derived from {event_time}, in UTC."
                )
    if not any(field.is_feature for field in fields.values()):
        raise ContractError(f"{path}: no column looks like a feature; write the contract by hand")
    return FeatureContract(
        name=_contract_name(name, path),
        description=_summary(path, facts, roles, left_out),
        source=facts.source.model_copy(update={"timestamp_format": timestamp_format}),
        fields=fields,
    )


def _contract_name(name: str | None, path: Path | str) -> str:
    if name is not None:
        return name
    stem = Path(path).name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "_", stem).strip("_-")[:60].lstrip("0123456789_-") or "contract"


def _summary(path: Path | str, facts: FileFacts, roles: dict[str, Role], left_out: list[str]) -> str:
    text = f"Drafted from {Path(path).name} ({facts.rows:,} rows looked at); every role and encoding is a guess to be checked."
    if Role.LABEL not in roles.values():
        text += " No column looks like a label: give a click log, or name the label."
    if Role.EVENT_TIME not in roles.values():
        text += " No column looks like the event time: splits go by the order of the rows."
    if left_out:
        text += f" Left out: {', '.join(left_out)}."
    return text


def _singular_roles(facts: FileFacts) -> dict[str, Role]:
    """Column -> role, for the roles only one field may have: the first name that fits and whose values agree."""
    roles: dict[str, Role] = {}
    for role, patterns in _SINGULAR:
        for pattern in patterns:
            fitting = [
                column.name
                for column in facts.columns
                if column.name not in roles
                and re.fullmatch(pattern, column.name.lower())
                and _agrees(role, column, facts)
            ]
            if fitting:
                roles[fitting[0]] = role
                break
    if Role.EVENT_TIME not in roles.values():
        clock = next((c for c in facts.columns if c.is_time and c.name not in roles), None)
        if clock is not None:
            roles[clock.name] = Role.EVENT_TIME
    return roles


def _agrees(role: Role, column: ColumnFacts, facts: FileFacts) -> bool:
    span = column.span
    if role is Role.LABEL:
        return column.kind == "BOOLEAN" or (
            span is not None and set(span) <= {0.0, 1.0} and column.distinct <= 2
        )
    if role in (Role.EVENT_TIME, Role.CLICK_TIME):
        return column.is_time or _epoch(column) is not None
    if role is Role.IMPRESSION_ID:
        # The estimate of distinct values is off by a few percent.
        keyed = column.is_integer or column.kind in ("VARCHAR", "UUID")
        return keyed and column.nulls == 0 and column.distinct > 0.8 * facts.rows
    if role is Role.REQUEST_ID:
        return column.is_integer or column.kind in ("VARCHAR", "UUID")
    if role is Role.POSITION:
        return column.is_integer and span is not None and span[0] >= 0 and span[1] <= 1000
    if role is Role.TRUTH:
        return column.is_fraction and span is not None and span[0] >= 0 and span[1] <= 1
    return span is not None and span[0] >= 0


def _epoch(column: ColumnFacts) -> str | None:
    """The unit in which a number would be a time between 2001 and 2065."""
    if column.span is None:
        return None
    for unit, scale in (("epoch_s", 1.0), ("epoch_ms", 1e3), ("epoch_us", 1e6)):
        if 1e9 * scale <= column.span[0] and column.span[1] <= 3e9 * scale:
            return unit
    return None


def _guess(column: ColumnFacts, role: Role | None, facts: FileFacts) -> _Guess | None:
    if role is not None:
        return _of_singular_role(column, role)
    dtype = _dtype(column)
    if dtype is None:
        return None
    name = column.name.lower()
    if re.fullmatch(_METADATA, name):
        return _metadata(
            dtype,
            "Not a model input: by its name (a propensity, a price paid, a note, a URL) it is not known before the click, or tells how the "
            "log was made rather than what was shown.",
        )
    if dtype is Dtype.TIMESTAMP:
        return _metadata(dtype, "A time besides the event time.")
    if column.distinct <= 1 and not dtype.is_list:
        return _metadata(dtype, f"Always {column.least!r} in what was looked at: nothing to learn.")
    if dtype is Dtype.STRING and column.distinct > 0.9 * facts.rows and facts.rows > 100:
        return _metadata(
            dtype, f"About {column.distinct:,} values in {facts.rows:,} rows: a key or free text."
        )
    encoding, reason = _encoding(column, dtype, facts)
    if dtype.is_list:
        role = Role.SEQUENCE
    elif re.fullmatch(_USER, name):
        role = Role.USER
    elif re.fullmatch(_AD, name):
        role = Role.AD
    else:
        role = Role.CONTEXT
    if column.nulls:
        reason += f" {column.nulls:.1%} missing."
    personal = re.fullmatch(_PERSONAL, name) is not None
    return _Guess(
        ContractField(role=role, dtype=dtype, encoding=encoding, personal=personal, description=reason)
    )


def _of_singular_role(column: ColumnFacts, role: Role) -> _Guess:
    facts = f"By its name; {column.least} to {column.greatest}."
    required = role in (Role.LABEL, Role.EVENT_TIME, Role.IMPRESSION_ID)
    unit = None
    bounds = None
    if role in (Role.EVENT_TIME, Role.CLICK_TIME):
        dtype = Dtype.TIMESTAMP
        unit = None if column.is_time else _epoch(column)
    elif role is Role.LABEL:
        dtype = Dtype.BOOL if column.kind == "BOOLEAN" else Dtype.INT64
    elif role is Role.POSITION:
        dtype = Dtype.INT64
        if column.span is not None and column.span[0] == 0:
            bounds = Range(min=0)
            facts += " Counts from 0 here, while a caller who does not know the slot asks for 1: better count from 1."
    elif role in (Role.WEIGHT, Role.TRUTH, Role.BID):
        dtype = Dtype.FLOAT32
    else:
        dtype = Dtype.INT64 if column.is_integer else Dtype.STRING
    return _Guess(
        ContractField(role=role, dtype=dtype, required=required, range=bounds, description=facts), unit
    )


def _dtype(column: ColumnFacts) -> Dtype | None:
    if column.kind in ("VARCHAR", "UUID") or column.kind.startswith("ENUM"):
        return Dtype.STRING
    if column.is_integer:
        return Dtype.INT64
    if column.is_fraction:
        return Dtype.FLOAT32
    if column.kind == "BOOLEAN":
        return Dtype.BOOL
    if column.is_time:
        return Dtype.TIMESTAMP
    if column.kind == "VARCHAR[]":
        return Dtype.STRING_LIST
    if column.kind in ("INTEGER[]", "BIGINT[]", "SMALLINT[]"):
        return Dtype.INT64_LIST
    return None


def _metadata(dtype: Dtype, reason: str) -> _Guess:
    return _Guess(ContractField(role=Role.METADATA, dtype=dtype, description=reason))


def _encoding(column: ColumnFacts, dtype: Dtype, facts: FileFacts) -> tuple[Encoding, str]:
    if dtype.is_list:
        return ListOf(items=_categorical(column, facts)), "A list: taken for a history, the latest item last."
    if dtype is Dtype.BOOL:
        return Vocabulary(min_count=1), "Yes or no."
    seen = f"About {column.distinct:,} values."
    if dtype is Dtype.STRING:
        return _categorical(column, facts), seen
    coded = re.fullmatch(_CATEGORY, column.name.lower()) is not None
    if dtype is Dtype.INT64 and (coded or column.distinct <= min(_FEW, facts.rows // 100)):
        why = "by its name" if coded else "by their small number"
        return _categorical(column, facts), f"{seen} Whole numbers taken for codes {why}."
    span = column.span or (0.0, 0.0)
    described = (
        f"{span[0]:g} to {span[1]:g}, three quarters of the values at most {column.upper_quartile or 0:g}."
    )
    if span[0] >= 0 and span[1] > 10 * max(column.upper_quartile or 0, 1):
        return Log1p(), described + " A long tail, hence the logarithm."
    return Standardize(), described


def _categorical(column: ColumnFacts, facts: FileFacts) -> Any:
    if column.distinct > _MANY:
        return Hash(buckets=1 << max(column.distinct // 4, 2).bit_length())
    return Vocabulary(min_count=2 if facts.rows < 100_000 else 10)
