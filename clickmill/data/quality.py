"""The contract check: which rows break which rule, told in a report, with the good and the bad rows in files of their own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
from pydantic import BaseModel

from clickmill.contract import FeatureContract, Format, Role
from clickmill.data import engine
from clickmill.data.conform import IBIS_TYPES, OPTIONAL_ROLES, UTC_MICROSECONDS
from clickmill.data.formats import REJECTS, ROW, TEST
from clickmill.data.rules import Rule, rules_of
from clickmill.errors import QuarantineOverflow, SchemaMismatch, UnreadableData

FIELD, REASON = "__field__", "__reason__"


@ibis.udf.scalar.builtin(name="epoch_us")
def _microseconds(instant: UTC_MICROSECONDS) -> int:  # type: ignore[valid-type,empty-body]
    """DuckDB: microseconds since 1970."""


class Breach(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """All rows that broke one rule of one field."""

    field: str
    """Name of the field, or `(line)` when the line as a whole is broken."""
    rule: str
    """The rule as it should have held."""
    rows: int
    """Rows that broke it. A row may break several."""
    first_row: int
    """The first of them, counted from 0 over the data rows."""
    first_value: str
    """What stood there."""
    remedy: str
    """What to do about it."""


class Clock(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How orderly time is in the source. Rows are sorted by time in any case; a backward step is no fault by itself."""

    start: datetime | None = None
    """Earliest event time."""
    end: datetime | None = None
    """Latest event time."""
    backward_steps: int = 0
    """Rows that are earlier than the row before them."""
    largest_step_s: float = 0.0
    """The largest of these steps, in seconds."""


class QualityReport(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What the contract check found."""

    origin: str
    """The source, as messages call it."""
    rows: int
    """Rows read, bad ones included."""
    quarantined: int
    """Rows set aside."""
    breaches: tuple[Breach, ...] = ()
    """By (field, rule), in the order of the contract."""
    clock: Clock = Clock()
    """Order of the event times."""
    quarantine: str | None = None
    """File with the bad rows, when there are any."""

    @property
    def share(self) -> float:
        """Quarantined rows / rows."""
        return self.quarantined / self.rows if self.rows else 0.0

    @property
    def message(self) -> str:
        """What, where and what to do, for people."""
        if not self.quarantined:
            return f"{self.origin}: {self.rows:,} rows keep the contract."
        lines = [f"{self.origin}: {self.quarantined:,} of {self.rows:,} rows break the contract"]
        if self.quarantine:
            lines[0] += f"; they are in {self.quarantine} with their reasons."
        for breach in self.breaches:
            verb = "the first is" if breach.rows > 1 else "it is"
            lines.append(
                f"  field `{breach.field}`, rule {breach.rule}: {breach.rows:,} row{'s' * (breach.rows > 1)}, "
                f"{verb} row {breach.first_row:,} with {breach.first_value}"
            )
            lines.append(f"  {breach.remedy}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    """The rows after judgement; both tables are lazy and carry `__row__`."""

    good: ibis.Table
    """Columns of the contract that the source had, plus `__row__`."""
    bad: ibis.Table
    """The same plus `__field__` and `__reason__`, in source order."""
    report: QualityReport
    """`quarantine` is not set yet."""


def check(
    table: ibis.Table,
    contract: FeatureContract,
    *,
    quarantine: Path,
    out: Path,
    max_quarantine_share: float = 0.01,
    latest: datetime | None = None,
    origin: str = "the table",
) -> QualityReport:
    """Stream the rows that keep the contract to Parquet at `out`, the others with `__row__`, `__field__` and `__reason__` to
    `quarantine` (written only when there are any).

    table: from `read`, or any table with the contract's columns. latest: newest legal event time; default one day from now.
    Raises SchemaMismatch; UnreadableData when there are no rows; QuarantineOverflow above `max_quarantine_share`, after the
    quarantine is written and before `out` is.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.staged")
    try:
        with engine.interruptible():
            staged, rejects = stage(table, contract, staging)
            verdict = examine(staged, contract, rejects=rejects, latest=latest, origin=origin)
            report = set_aside(verdict, quarantine, max_quarantine_share)
            engine.copy_to_parquet(verdict.good.drop(ROW), out)
    finally:
        staging.unlink(missing_ok=True)
    return report


def stage(table: ibis.Table, contract: FeatureContract, path: Path) -> tuple[ibis.Table, Sequence[Breach]]:
    """Parse text once: write the typed rows to Parquet at `path`, so that later passes are cheap. Parquet stays as it is.

    Also returns the lines that had too few or too many columns, which no table can hold.
    """
    if contract.source.format is Format.PARQUET:
        return table, ()
    con = engine.backend_of(table)
    con.raw_sql(f"DROP TABLE IF EXISTS {REJECTS}")
    con.raw_sql(f"DROP TABLE IF EXISTS {REJECTS}_scans")
    engine.copy_to_parquet(table, path)
    return con.read_parquet(str(path)), _rejected_lines(con)


def _rejected_lines(con: Any) -> Sequence[Breach]:
    # con.list_tables() leaves temporary tables out.
    known = con.raw_sql(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{REJECTS}'").fetchall()[0][
        0
    ]
    if not known:
        return ()
    rows = con.raw_sql(
        "SELECT lower(error_type::VARCHAR), count(DISTINCT (file_id, line)), min(line), arg_min(csv_line, line) "
        f"FROM {REJECTS} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return tuple(
        Breach(
            field="(line)",
            rule=f"no line has {kind}",
            rows=count,
            first_row=line,
            first_value=repr(str(text)[:120]),
            remedy="Correct these lines in the source; their row is the line number in the file.",
        )
        for kind, count, line, text in rows
    )


def examine(
    table: ibis.Table,
    contract: FeatureContract,
    *,
    rejects: Sequence[Breach] = (),
    latest: datetime | None = None,
    origin: str = "the table",
) -> Verdict:
    """Judge every row: one pass over the columns that have rules, then the duplicate keys. Writes nothing."""
    _require_columns(table, contract, origin)
    con = engine.backend_of(table)
    with engine.engine_errors(origin):
        rows = int(table.count().to_pyarrow().as_py())
    if rows == 0 and not rejects:
        raise UnreadableData(f"{origin}: holds no rows; check that the right file was written to the end")
    if ROW not in table.columns:
        table = table.mutate(**{ROW: ibis.row_number()})
    latest = latest or datetime.now(UTC) + timedelta(days=1)
    rules = rules_of(table, contract, latest=latest)
    found, breaches = _broken(table, rules, con, origin)
    key = contract.of_role(Role.IMPRESSION_ID)
    if key is not None and key in table.columns:
        found, duplicates = _duplicates(table, key, found, con)
        breaches += duplicates
    columns = [name for name in (*contract.columns, TEST, ROW) if name in table.columns]
    quarantined = int(found.count().to_pyarrow().as_py())
    good = table.select(columns)
    if quarantined:
        good = good.anti_join(found, ROW)
    bad = table.select(columns).inner_join(found, ROW).order_by(ROW)
    lost = sum(breach.rows for breach in rejects)
    report = QualityReport(
        origin=origin,
        rows=rows + lost,
        quarantined=quarantined + lost,
        breaches=(*rejects, *breaches),
        clock=_clock(table, contract, latest, con),
    )
    return Verdict(good, bad, report)


def set_aside(verdict: Verdict, quarantine: Path, max_quarantine_share: float) -> QualityReport:
    """Write the bad rows; raises QuarantineOverflow when they are more than the run tolerates."""
    report = verdict.report
    if report.quarantined:
        quarantine.parent.mkdir(parents=True, exist_ok=True)
        engine.copy_to_parquet(verdict.bad, quarantine)
        report = report.model_copy(update={"quarantine": str(quarantine)})
    else:
        quarantine.unlink(missing_ok=True)
    if report.share > max_quarantine_share:
        raise QuarantineOverflow(
            f"{report.message}\n"
            f"That is {report.share:.2%} of the rows, more than the {max_quarantine_share:.2%} allowed; nothing went on. "
            "Mend the source or the contract, or raise `max_quarantine_share`."
        )
    return report


def _require_columns(table: ibis.Table, contract: FeatureContract, origin: str) -> None:
    problems = []
    for name, field in contract.columns.items():
        assert field.dtype is not None
        if name not in table.columns:
            if field.role not in OPTIONAL_ROLES | {Role.LABEL} and field.aggregate is None:
                problems.append(f"column `{name}` ({field.dtype}) is missing; make the table with `read`")
        elif table[name].type().copy(nullable=True) != IBIS_TYPES[field.dtype].copy(nullable=True):
            problems.append(
                f"column `{name}` holds {table[name].type()}, the contract says {field.dtype}; make the table with `read`"
            )
    if problems:
        raise SchemaMismatch(f"{origin}: does not fit contract `{contract.name}`\n  " + "\n  ".join(problems))


def _broken(
    table: ibis.Table, rules: Sequence[Rule], con: Any, origin: str
) -> tuple[ibis.Table, list[Breach]]:
    """One pass: rows that break any rule, kept in a temporary table with a flag and a value per rule."""
    flags = {f"r{k}": rule.broken for k, rule in enumerate(rules)}
    values = {f"v{k}": rule.broken.ifelse(rule.value, ibis.null("string")) for k, rule in enumerate(rules)}
    if not flags:
        empty = table.select(
            **{ROW: table[ROW], FIELD: ibis.null("string"), REASON: ibis.null("string")}
        ).limit(0)
        return empty, []
    suspects = table.filter(ibis.or_(*flags.values())).select(**{ROW: table[ROW]}, **flags, **values)
    with engine.engine_errors(origin):
        kept = con.create_table(f"broken_{uuid.uuid4().hex}", suspects, temp=True)
    totals = engine.one_row(
        kept.aggregate(
            **{f"n{k}": kept[f"r{k}"].sum() for k in range(len(rules))},
            **{f"f{k}": kept[ROW].min(where=kept[f"r{k}"]) for k in range(len(rules))},
            **{f"v{k}": kept[f"v{k}"].argmin(kept[ROW], where=kept[f"r{k}"]) for k in range(len(rules))},
        )
    )
    breaches = [
        Breach(
            field=rule.field,
            rule=rule.text,
            rows=int(totals[f"n{k}"]),
            first_row=int(totals[f"f{k}"]),
            first_value=str(totals[f"v{k}"]),
            remedy=rule.remedy,
        )
        for k, rule in enumerate(rules)
        if totals[f"n{k}"]
    ]
    hit = [k for k in range(len(rules)) if totals[f"n{k}"]]
    if not hit:
        return _verdicts(kept, ibis.null("string"), ibis.null("string")), []
    fields = ibis.coalesce(*(kept[f"r{k}"].ifelse(rules[k].field, ibis.null("string")) for k in hit))
    told = [
        kept[f"r{k}"].ifelse(
            ibis.literal(f"{rules[k].text}: got ") + kept[f"v{k}"].fill_null("nothing"), ibis.null("string")
        )
        for k in hit
    ]
    reasons = ibis.array(told).filter(lambda item: item.notnull()).join("; ")
    return _verdicts(kept, fields, reasons), breaches


def _verdicts(kept: ibis.Table, fields: Any, reasons: Any) -> ibis.Table:
    return kept.select(**{ROW: kept[ROW], FIELD: fields, REASON: reasons})


def _duplicates(table: ibis.Table, key: str, found: ibis.Table, con: Any) -> tuple[ibis.Table, list[Breach]]:
    """Rows whose key came before: the first good one stays.

    Counts 8-byte hashes instead of keys (text keys of a large log would not fit in memory), then settles the few
    hashes that occur twice by the keys themselves.
    """
    hashed = table.filter(table[key].notnull()).select(h=table[key].hash())
    twice = hashed.group_by("h").having(hashed.count() > 1).agg()
    with engine.engine_errors(None):
        suspects = con.create_table(f"twice_{uuid.uuid4().hex}", twice, temp=True)
    if not suspects.count().to_pyarrow().as_py():
        return found, []
    keyed = table.filter(table[key].notnull()).select(
        **{ROW: table[ROW], "key": table[key], "h": table[key].hash()}
    )
    rivals = keyed.semi_join(suspects, "h").anti_join(found, ROW)
    rivals = rivals.mutate(nth=ibis.row_number().over(group_by="key", order_by=ROW))
    again = rivals.filter(rivals.nth > 0)
    later = con.create_table(
        f"again_{uuid.uuid4().hex}",
        again.select(
            **{
                ROW: again[ROW],
                FIELD: ibis.literal(key),
                REASON: ibis.literal(f"{key} is unique: got ") + again["key"].cast("string") + " again",
                "key": again["key"].cast("string"),
            }
        ),
        temp=True,
    )
    totals = engine.one_row(
        later.aggregate(n=later.count(), first=later[ROW].min(), value=later["key"].argmin(later[ROW]))
    )
    if not totals["n"]:
        return found, []
    breach = Breach(
        field=key,
        rule=f"{key} is unique",
        rows=totals["n"],
        first_row=totals["first"],
        first_value=f"{totals['value']} again",
        remedy="The first row of each stays, the others are set aside; find out who writes impressions twice.",
    )
    return found.union(later.drop("key")), [breach]


def _clock(table: ibis.Table, contract: FeatureContract, latest: datetime, con: Any) -> Clock:
    name = contract.of_role(Role.EVENT_TIME)
    if name is None or name not in table.columns:
        return Clock()
    seen = table.filter(table[name].notnull() & (table[name] <= latest)).select(t=table[name], n=table[ROW])
    seen = seen.mutate(before=seen.t.lag().over(order_by="n"))
    totals = engine.one_row(
        seen.aggregate(
            start=seen.t.min(),
            end=seen.t.max(),
            steps=(seen.t < seen.before).sum(),
            largest=(_microseconds(seen.before) - _microseconds(seen.t)).max(),
        )
    )
    if totals["start"] is None:
        return Clock()
    return Clock(
        start=totals["start"],
        end=totals["end"],
        backward_steps=int(totals["steps"] or 0),
        largest_step_s=max(totals["largest"] or 0, 0) / 1e6,
    )


__all__ = ["Breach", "Clock", "QualityReport", "Verdict", "check", "examine", "set_aside", "stage"]
