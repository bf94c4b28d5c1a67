"""Splits by time: no row of an earlier split is shown after a row of a later one, and one instant is never divided."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import ibis
from pydantic import BaseModel, Field, field_validator, model_validator

from clickmill.data import engine
from clickmill.errors import DataError

SPLITS = ("train", "validation", "calibration", "test")
"""In order of time."""


class Fractions(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Shares of the rows, in order of time; they add up to 1. A cut never divides rows of the same instant."""

    train: float = Field(default=0.6, gt=0, lt=1)
    """What the model learns from."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """End of the training era, for early stopping."""
    calibration: float = Field(default=0.1, gt=0, lt=1)
    """What the calibrator learns from: never sampled, never seen by the model."""
    test: float = Field(default=0.2, ge=0, lt=1)
    """What the numbers come from. With separate test files this share is left out and the others grow in proportion."""

    @model_validator(mode="after")
    def _whole(self) -> Fractions:
        total = self.train + self.validation + self.calibration + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions must add up to 1. Got {total:g} instead")
        return self


class CutTimes(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """First instants of the later splits; a row at the very instant belongs to the later split. Naive times are UTC."""

    validation: datetime
    """Everything before is train."""
    calibration: datetime
    """Start of calibration."""
    test: datetime | None = None
    """Start of test; absent only with separate test files."""

    @field_validator("validation", "calibration", "test")
    @classmethod
    def _in_utc(cls, time: datetime | None) -> datetime | None:
        return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _ascending(self) -> CutTimes:
        times = [t for t in (self.validation, self.calibration, self.test) if t is not None]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("the cut times must ascend: validation, calibration, test")
        return self


def starts_by_share(table: ibis.Table, clock: str, shares: Mapping[str, float]) -> dict[str, Any]:
    """First instant of every split but the first, so that the splits hold about `shares` (name -> share, in order) of the rows.

    Of the two ways to put the rows of the instant at a cut, the one nearer to the share is taken. Raises DataError when
    there are fewer distinct instants than splits.
    """
    # All that follows asks for times only: they are read once, 8 bytes a row, and DuckDB spills them if it must.
    table = engine.backend_of(table).create_table(
        f"clock_{uuid.uuid4().hex}", table.select(**{clock: table[clock]}), temp=True
    )
    names = list(shares)
    rows = int(table.count().to_pyarrow().as_py())
    # The latest instant at which each split may begin so that every later one still gets an instant of its own.
    last = table.select(t=table[clock]).distinct().order_by(ibis.desc("t")).limit(len(names))
    limits = sorted(row["t"] for row in engine.to_rows(last))
    if len(limits) < len(names):
        raise DataError(
            f"{rows:,} rows at {len(limits)} distinct instants can't be split by time into {', '.join(names)}. "
            "Give finer event times, more data, or fewer splits."
        )
    targets, cumulative = [], 0.0
    for name in names[:-1]:
        cumulative += shares[name]
        targets.append(cumulative)
    previous = engine.one_row(table.aggregate(t=table[clock].min()))["t"]
    starts: dict[str, Any] = {}
    instants = _instants_at(table, clock, targets)
    for name, target, instant, limit in zip(names[1:], targets, instants, limits[1:], strict=True):
        start = min(_nearer_cut(table, clock, instant, target * rows), limit)
        if start <= previous:
            start = engine.one_row(table.aggregate(t=table[clock].min(where=table[clock] > previous)))["t"]
        starts[name] = previous = start
    return starts


def _instants_at(table: ibis.Table, clock: str, targets: list[float]) -> list[Any]:
    """The event time of the row at each share of the rows, in order of time."""
    # A rank over the sorted times would sort everything; DuckDB's discrete quantile selects.
    query = ibis.to_sql(table.select(t=table[clock]), dialect="duckdb")
    shares = [min(max(target, 0.0), 1.0) for target in targets]
    with engine.engine_errors(None):
        rows = (
            engine.backend_of(table).raw_sql(f"SELECT quantile_disc(t, {shares!r}) FROM ({query})").fetchall()
        )
    return list(rows[0][0])


def _nearer_cut(table: ibis.Table, clock: str, instant: Any, wanted: float) -> Any:
    """Start of the right side: `instant` itself, or the next one, whichever leaves nearer to `wanted` rows on the left."""
    time = table[clock]
    counts = engine.one_row(
        table.aggregate(
            before=(time < instant).sum(),
            until=(time <= instant).sum(),
            following=time.min(where=time > instant),
        )
    )
    if counts["following"] is not None and abs(counts["until"] - wanted) < abs(counts["before"] - wanted):
        return counts["following"]
    return instant
