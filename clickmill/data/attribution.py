"""From an impression log and a click log to labels: which click belongs to which impression, and which to none."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import ibis
from pydantic import BaseModel

from clickmill.contract import ContractField, Dtype, FeatureContract, Format, Role, Source
from clickmill.data import engine, files
from clickmill.data.conform import IBIS_TYPES, conform
from clickmill.data.formats import READERS
from clickmill.errors import ContractError

KEY, CLICK_TIME, LABEL = "impression_id", "click_time", "label"
"""Names that fields get where the contract has no field of that role."""


class JoinReport(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What became of each row of the click log: the counts of rows add up to `clicks`."""

    window_s: float
    """Attribution window in seconds: a click counts when it comes no later after its impression."""
    clicks: int
    """Rows of the click log."""
    joined: int
    """Impressions that got their click."""
    duplicate: int
    """Further clicks on an impression that has one already."""
    late: int
    """Clicks after the window."""
    before_impression: int
    """Clicks earlier than their impression: the clocks of the two logs disagree."""
    orphan: int
    """Clicks on no impression of the log."""
    incomplete: int
    """Clicks without a key or a time."""
    unknown_yet: int = 0
    """Clicks at or after `as_of` on impressions before it: where one learns as of an earlier moment they were not known."""
    immature: int
    """Impressions whose window was still open at the moment of learning; some of their clicks may be yet to come."""
    click_log_end: datetime | None = None
    """Latest click, the best guess of when the click log ended."""
    as_of: datetime | None = None
    """The moment of learning: the one asked for, else the end of the click log."""

    @property
    def message(self) -> str:
        """The counts in a sentence each, for people."""
        window = f"{self.window_s / 3600:g} hours" if self.window_s >= 3600 else f"{self.window_s:g} seconds"
        return (
            f"{self.joined:,} of {self.clicks:,} clicks found their impression within {window}; "
            f"{self.duplicate:,} were duplicates, {self.late:,} late, {self.orphan:,} orphans, "
            f"{self.before_impression:,} before their impression, {self.incomplete:,} incomplete; "
            + (
                f"{self.unknown_yet:,} were not known by {self.as_of:%Y-%m-%d %H:%M} UTC; "
                if self.unknown_yet
                else ""
            )
            + f"{self.immature:,} impressions had their window still open at the moment of learning."
        )


def read_clicks(paths: files.PathsLike, contract: FeatureContract, *, con: Any = None) -> ibis.Table:
    """A click log as a lazy table with the columns of the key and the click time, by the contract's names.

    Parquet or CSV by the files' suffix, under the contract's source columns (default `impression_id`, `click_time`).
    """
    names = contract.of_role(Role.CLICK_TIME) or CLICK_TIME
    clock = contract.fields.get(names, ContractField(role=Role.CLICK_TIME, dtype=Dtype.TIMESTAMP))
    return read_side_log(paths, contract, {names: clock}, con=con)


def read_truth(paths: files.PathsLike, contract: FeatureContract, *, con: Any = None) -> ibis.Table:
    """The true click probabilities of a simulated market by impression key. Raises ContractError without a truth field."""
    name = contract.of_role(Role.TRUTH)
    if name is None:
        raise ContractError(
            f"contract `{contract.name}` has no field of role truth, but a truth log is given; add one (dtype float32)"
        )
    return read_side_log(paths, contract, {name: contract.fields[name]}, con=con)


def read_side_log(
    paths: files.PathsLike, contract: FeatureContract, fields: dict[str, ContractField], *, con: Any = None
) -> ibis.Table:
    """Key and `fields` of a log beside the impressions; a field that cannot be parsed is null."""
    key = key_of(contract)
    found = files.resolve(paths, files.side_format(paths))
    parquet = found[0].name.lower().endswith((".parquet", ".pq"))
    layout = Format.PARQUET if parquet else Format.CSV
    side = contract.model_copy(
        update={
            "source": Source(
                format=layout,
                delimiter=contract.source.delimiter,
                timestamp_format=contract.source.timestamp_format,
            )
        }
    )
    con = engine.shared() if con is None else con
    scanned = READERS[layout](con, found, side)
    # What is optional beside an impression is the very point of this log: it must be there.
    wanted = {key: contract.fields[key]} | {
        name: field.model_copy(update={"role": Role.METADATA}) for name, field in fields.items()
    }
    return conform(scanned, side, wanted, files.describe(found)).select(*wanted)


def key_of(contract: FeatureContract) -> str:
    """Name of the impression's key; raises ContractError when there is none to join by."""
    key = contract.of_role(Role.IMPRESSION_ID)
    if key is None:
        raise ContractError(
            f"contract `{contract.name}` has no field of role impression_id, so that no other log can be joined; add one"
        )
    return key


def label_of(contract: FeatureContract) -> str:
    """Name of the label column: the contract's label field, or `label` where the click log makes it."""
    return contract.of_role(Role.LABEL) or LABEL


def join_clicks(
    impressions: ibis.Table,
    clicks: ibis.Table,
    *,
    contract: FeatureContract,
    window: timedelta,
    time_column: str | None = None,
    as_of: datetime | None = None,
) -> tuple[ibis.Table, JoinReport]:
    """Label each impression by whether a click came within `window` after it (both ends included); nothing multiplies.

    impressions: contract columns, unique non-null keys (what `check` lets through). clicks: key and click time, from
    `read_clicks` on the same connection. Returns the impressions, lazy, with the label (and the time of the first valid
    click, null elsewhere, where the contract has a click_time field or else as `time_column`), and the report. The small side is kept in memory:
    one row per clicked impression. as_of: of impressions before it, clicks from it on count as not known yet; later impressions have
    all their clicks.
    """
    key, event_time = key_of(contract), _required(contract, Role.EVENT_TIME)
    label, click_time = label_of(contract), contract.of_role(Role.CLICK_TIME)
    con = engine.backend_of(impressions)
    log = clicks.select(key=clicks[key], at=clicks[click_time or CLICK_TIME])
    shown = impressions.select(key=impressions[key], shown=impressions[event_time])
    matched = log.left_join(shown, "key")
    matched = matched.select(key=matched.key, at=matched.at, shown=matched.shown)
    end = matched.shown + ibis.interval(microseconds=round(window.total_seconds() * 1e6))
    complete = matched.key.notnull() & matched.at.notnull()
    fate = ibis.cases(
        (~complete, "incomplete"),
        (matched.shown.isnull(), "orphan"),
        (matched.at < matched.shown, "before_impression"),
        (matched.at > end, "late"),
        *(
            []
            if as_of is None
            else [
                ((matched.shown < ibis.literal(as_of)) & (matched.at >= ibis.literal(as_of)), "unknown_yet")
            ]
        ),
        else_="valid",
    )
    with engine.engine_errors("the click log"):
        judged = con.create_table(
            f"judged_{uuid.uuid4().hex}", matched.mutate(fate=fate).drop("shown"), temp=True
        )
        valid = judged.filter(judged.fate == "valid").group_by("key").agg(at=lambda t: t["at"].min())
        attributed = con.create_table(f"attributed_{uuid.uuid4().hex}", valid, temp=True)
        counts = {
            row["fate"]: row["n"] for row in engine.to_rows(judged.group_by("fate").agg(n=judged.count()))
        }
        log_end = engine.one_row(judged.aggregate(end=judged["at"].max()))["end"]
        joined = int(attributed.count().to_pyarrow().as_py())
    report = JoinReport(
        window_s=window.total_seconds(),
        clicks=sum(counts.values()),
        joined=joined,
        duplicate=counts.get("valid", 0) - joined,
        late=counts.get("late", 0),
        before_impression=counts.get("before_impression", 0),
        orphan=counts.get("orphan", 0),
        incomplete=counts.get("incomplete", 0),
        unknown_yet=counts.get("unknown_yet", 0),
        immature=_immature(shown, log_end, window, as_of),
        click_log_end=log_end,
        as_of=as_of or log_end,
    )
    kept = [c for c in impressions.columns if c not in (label, click_time)]
    base = impressions.select(kept)
    right = attributed.select(__key__=attributed["key"], __at__=attributed["at"])
    both = base.left_join(right, base[key] == right["__key__"])
    columns: dict[str, Any] = {name: both[name] for name in kept}
    field = contract.fields.get(label)
    kind = (
        IBIS_TYPES[field.dtype] if field is not None and field.dtype is not None else IBIS_TYPES[Dtype.INT64]
    )
    columns[label] = both["__at__"].notnull().cast(kind)
    if click_time or time_column:
        columns[str(click_time or time_column)] = both["__at__"]
    return both.select(**columns), report


def join_truth(impressions: ibis.Table, truth: ibis.Table, contract: FeatureContract) -> ibis.Table:
    """The impressions with the truth field filled from the truth log, null where it has no row; the lowest per key counts should one be given twice."""
    key, name = key_of(contract), _required(contract, Role.TRUTH)
    probability = truth.group_by(__key__=truth[key]).agg(__truth__=truth[name].min())
    base = impressions.drop(name) if name in impressions.columns else impressions
    both = base.left_join(probability, base[key] == probability["__key__"])
    return both.select(*base.columns, **{name: both["__truth__"]})


def _required(contract: FeatureContract, role: Role) -> str:
    name = contract.of_role(role)
    if name is None:
        raise ContractError(f"contract `{contract.name}` has no field of role {role.value}; add one")
    return name


def _immature(shown: ibis.Table, log_end: datetime | None, window: timedelta, as_of: datetime | None) -> int:
    moment = as_of or log_end
    if moment is None:
        return 0
    young = shown.shown > ibis.literal(moment - window)
    if as_of is not None:
        young &= shown.shown < ibis.literal(as_of)
    return int(shown.filter(young).count().to_pyarrow().as_py())


__all__ = [
    "JoinReport",
    "join_clicks",
    "join_truth",
    "key_of",
    "label_of",
    "read_clicks",
    "read_truth",
]
