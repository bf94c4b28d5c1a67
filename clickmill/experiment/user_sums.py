"""Impressions summed by user, arm and look in DuckDB: the one pass over the log, after which everything works on sums and moments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from clickmill.data.engine import identifier, quoted
from clickmill.errors import DataError, SchemaMismatch
from clickmill.experiment.log import Source
from clickmill.experiment.moments import Moments
from clickmill.experiment.spec import USERS, ExperimentSpec

SHOWN = "shown"
"""Of a row: 0 where the user came and saw nothing."""
SEEN = "pre_seen"
"""1 for a user who was there before the start: to have been away is no zero click rate."""


class UserSums:
    """The sums of one experiment, in tables of a DuckDB connection."""

    def __init__(
        self, connection: Any, source: Source, spec: ExperimentSpec, *, look: timedelta = timedelta(days=1)
    ) -> None:
        """Check the log and sum it up. look: length of the periods after which the experiment is looked at; whole days, or parts of one.

        Raises SchemaMismatch for a missing column, DataError naming field, row and rule: a value that can't be, an unknown arm, an arm
        without users, users in two arms, an impression that comes twice.
        """
        self.spec, self._db, self._source = spec, connection, source
        self.columns = _wanted(spec, source)
        connection.execute("SET TimeZone = 'UTC'")
        before, after = "true", "true"
        if spec.start is not None:
            after = f"time >= {_moment(spec.start)}"
            before = f"time >= {_moment(spec.start - timedelta(days=spec.pre_days))}"
        if spec.end is not None:
            before += f" AND time < {_moment(spec.end)}"
        self._within, self._after = before, after
        first, last = self._check()
        self.start = spec.start or first
        origin = self.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if look < timedelta(days=1):  # looks of minutes begin with the experiment, days with the calendar's
            origin = self.start.astimezone(UTC)
        self.look, self.origin = look, origin
        self.last_look = int((last - origin) / look)
        self.last = last
        self._sum()

    @property
    def covariates(self) -> tuple[str, ...]:
        """Columns that say what a user was like before."""
        return (*(f"pre_{name}" for name in self.columns), SEEN) if self.spec.pre_days else ()

    def looked_at(self, look: int) -> datetime:
        """When a look is over: the end of its period, or of the log."""
        return min(self.origin + (look + 1) * self.look, self.last)

    def until(self, look: int) -> dict[str, Moments]:
        """Moments by arm of all users seen up to a look, with what they summed up to by then. Arms that nobody is in yet are left out."""
        sums = self._summed(f"look <= {look}")
        if not self.covariates:
            return self._moments(sums, self.columns)
        pre = ", ".join(f"coalesce({name}, 0)::DOUBLE AS {name}" for name in self.covariates)
        return self._moments(
            f"SELECT u.*, {pre} FROM ({sums}) u LEFT JOIN before USING (unit)",
            (*self.columns, *self.covariates),
        )

    def between(self, first: int, last: int) -> dict[str, Moments]:
        """Moments by arm of what users did in the looks from first to last, both included."""
        return self._moments(self._summed(f"look BETWEEN {first} AND {last}"), self.columns)

    def on_weekday(self, weekday: int) -> dict[str, Moments]:
        """Of all Mondays (1) to Sundays (7), UTC."""
        at = f"isodow({_moment(self.origin)} + look * to_microseconds({round(self.look.total_seconds() * 1e6)}))"
        return self._moments(self._summed(f"{at} = {weekday}"), self.columns)

    def users(self) -> list[dict[str, int]]:
        """Users by arm seen up to each look, from the first to the last."""
        rows = self._db.execute(
            "SELECT first, arm, count(*) FROM (SELECT arm, unit, min(look) AS first FROM cells GROUP BY ALL) GROUP BY ALL"
        ).fetchall()
        fresh = np.zeros((self.last_look + 1, len(self.spec.arms)), np.int64)
        arms = list(self.spec.arms)
        for look, arm, count in rows:
            fresh[look, arms.index(arm)] = count
        return [dict(zip(arms, row, strict=True)) for row in np.cumsum(fresh, axis=0).tolist()]

    def by_value(self, column: str, most: int = 20) -> dict[str, dict[str, Moments]]:
        """Moments by value of a slice and arm; a user counts in each value that was shown to them. The rarest beyond `most` are one: (other).

        Raises SchemaMismatch when the log has no such column.
        """
        if column not in self._source.columns:
            raise SchemaMismatch(
                f"{self._source.words}: no column {column!r}, by which slices were asked for"
            )
        value = f"coalesce({identifier(column)}::VARCHAR, '(missing)')"
        self._db.execute(
            f"CREATE OR REPLACE TEMP TABLE sliced AS SELECT {self._unit} AS unit, arm, {value} AS value, {self._aggregates} "
            f"FROM ({self._source.sql}) WHERE {self._within} AND {self._after} AND arm IS NOT NULL GROUP BY ALL"
        )
        names = [
            name
            for (name,) in self._db.execute(
                "SELECT value FROM sliced GROUP BY value ORDER BY sum(impressions) DESC, value"
            ).fetchall()
        ]
        kept, found = names[:most], {}
        listed = ", ".join(quoted(name) for name in kept) or "''"
        sums = ", ".join(f"sum({name})::DOUBLE AS {name}" for name in self.columns)
        for name in [*kept, *(["(other)"] if len(names) > most else [])]:
            where = f"value = {quoted(name)}" if name in kept else f"value NOT IN ({listed})"
            found[name] = self._moments(
                f"SELECT unit, arm, {sums} FROM sliced WHERE {where} GROUP BY unit, arm", self.columns
            )
        return found

    @property
    def _unit(self) -> str:
        return identifier(self.spec.unit)

    @property
    def _aggregates(self) -> str:
        """The sums of a group of impressions, in the order of `columns`."""
        impressions = "sum(shown::INTEGER)" if SHOWN in self._source.columns else "count(*)"
        single = {"impressions": impressions, "clicks": "sum(clicked::INTEGER)"}
        return ", ".join(
            f"{single.get(name, f'sum({identifier(name)}::DOUBLE)')} AS {identifier(name)}"
            for name in self.columns
        )

    def _check(self) -> tuple[datetime, datetime]:
        arms = ", ".join(quoted(name) for name in self.spec.arms)
        rules = {
            self.spec.unit: (f"{self._unit} IS NULL OR {self._unit}::VARCHAR = ''", "must name a user"),
            "time": ("time IS NULL", "must be set"),
            "arm": (
                f"{self._after} AND arm IS NOT NULL AND arm NOT IN ({arms})",
                f"must be one of {', '.join(self.spec.arms)}, or null",
            ),
            "clicked": ("clicked IS NULL OR clicked::DOUBLE NOT IN (0, 1)", "must be 0 or 1"),
        }
        if SHOWN in self._source.columns:
            rules[SHOWN] = ("shown IS NULL OR shown::DOUBLE NOT IN (0, 1)", "must be 0 or 1")
            rules["clicked"] = (
                f"{rules['clicked'][0]} OR clicked::DOUBLE > shown::DOUBLE",
                "must be 0 or 1, and 0 where nothing was shown",
            )
        for name in self.columns:
            if name not in ("impressions", "clicks"):
                lowest = f" OR {identifier(name)}::DOUBLE < 0" if name == "revenue" else ""
                told = (
                    "must be a finite amount of at least 0"
                    if name == "revenue"
                    else "must be a finite number"
                )
                rules[name] = (
                    f"{identifier(name)} IS NULL OR NOT isfinite({identifier(name)}::DOUBLE){lowest}",
                    told,
                )
        broken = ", ".join(f"count(*) FILTER ({rule})" for rule, _ in rules.values())
        row = self._db.execute(
            f"SELECT count(*), count(*) FILTER ({self._after} AND arm IS NOT NULL), "
            f"min(time) FILTER ({self._after} AND arm IS NOT NULL), max(time) FILTER ({self._after} AND arm IS NOT NULL), {broken} "
            f"FROM ({self._source.sql}) WHERE {self._within} OR time IS NULL"
        ).fetchone()
        rows, within, first, last, *counts = row
        for (field, (rule, told)), count in zip(rules.items(), counts, strict=True):
            if count:
                self._refuse(field, rule, told, count, rows)
        if not within:
            raise DataError(
                f"{self._source.words}: field `arm`: none of {rows:,} impressions has an arm after the start of experiment {self.spec.name}; "
                "has it begun, does the endpoint run with it?"
            )
        return first, last

    def _refuse(self, field: str, rule: str, told: str, count: int, rows: int) -> None:
        column = "clicked" if field == "clicked" else field
        number, value = self._db.execute(
            f"SELECT number, value FROM (SELECT row_number() OVER () - 1 AS number, {identifier(column)}::VARCHAR AS value, ({rule}) AS bad "
            f"FROM ({self._source.sql})) WHERE bad ORDER BY number LIMIT 1"
        ).fetchone()
        raise DataError(
            f"{self._source.words}: field `{field}`, {told}: {count:,} of {rows:,} rows do not, the first is row {number} with {value}"
        )

    def _sum(self) -> None:
        us = round(self.look.total_seconds() * 1e6)
        at = f"((epoch_us(time) - {round(self.origin.timestamp() * 1e6)}) // {us})::INTEGER"
        self._db.execute(
            f"CREATE OR REPLACE TEMP TABLE cells AS SELECT {self._unit} AS unit, arm, {at} AS look, {self._aggregates} "
            f"FROM ({self._source.sql}) WHERE {self._within} AND {self._after} AND arm IS NOT NULL GROUP BY ALL"
        )
        self._no_user_twice()
        self._no_impression_twice()
        missing = [name for name, count in self.users()[-1].items() if not count]
        if missing:
            seen = ", ".join(f"{name} {count:,}" for name, count in self.users()[-1].items() if count)
            raise DataError(
                f"{self._source.words}: field `arm`: nobody is in arm {missing[0]!r}; users by arm: {seen}. Is its weight live, is it logged under another name?"
            )
        if self.spec.pre_days:
            renamed = ", ".join(f"pre.{name} AS pre_{name}" for name in self.columns)
            self._db.execute(
                f"CREATE OR REPLACE TEMP TABLE before AS SELECT unit, {renamed}, 1 AS {SEEN} FROM (SELECT {self._unit} AS unit, {self._aggregates} "
                f"FROM ({self._source.sql}) WHERE {self._within} AND NOT ({self._after}) GROUP BY ALL) pre"
            )

    def _no_user_twice(self) -> None:
        twice, unit, arms = self._db.execute(
            "SELECT count(*), min(unit)::VARCHAR, arg_min(arms, unit) FROM "
            "(SELECT unit, string_agg(DISTINCT arm, ' and ' ORDER BY arm) AS arms FROM cells GROUP BY unit HAVING min(arm) <> max(arm))"
        ).fetchone()
        if twice:
            ((users,),) = self._db.execute("SELECT count(DISTINCT unit) FROM cells").fetchall()
            raise DataError(
                f"{self._source.words}: field `{self.spec.unit}`: {twice:,} of {users:,} users are in more than one arm, the first is {unit!r} in {arms}. "
                "Was the salt or a weight changed while it ran, or do several people share an id? Such users belong to neither arm, and leaving them out would bias both"
            )

    def _no_impression_twice(self) -> None:
        if "impression_id" not in self._source.columns:
            return
        found = self._db.execute(
            f"SELECT impression_id::VARCHAR, count(*) FROM ({self._source.sql}) WHERE {self._within} AND impression_id IS NOT NULL "
            "GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
        ).fetchone()
        if found:
            raise DataError(
                f"{self._source.words}: field `impression_id`: {found[0]!r} stands in {found[1]} rows; an impression counts once, keep one row of each"
            )

    def _summed(self, where: str) -> str:
        sums = ", ".join(f"sum({identifier(name)})::DOUBLE AS {identifier(name)}" for name in self.columns)
        return f"SELECT unit, arm, {sums} FROM cells WHERE {where} GROUP BY unit, arm"

    def _moments(self, sums: str, columns: Sequence[str]) -> dict[str, Moments]:
        """By arm, in the order of the spec."""
        pairs = list(combinations_with_replacement(range(len(columns)), 2))
        means = ", ".join(f"avg({identifier(name)})" for name in columns)
        products = ", ".join(
            f"covar_samp({identifier(columns[i])}, {identifier(columns[j])})" for i, j in pairs
        )
        found = {}
        for arm, n, *figures in self._db.execute(
            f"SELECT arm, count(*), {means}, {products} FROM ({sums}) GROUP BY arm"
        ).fetchall():
            covariance = np.zeros((len(columns), len(columns)))
            for (i, j), value in zip(pairs, figures[len(columns) :], strict=True):
                covariance[i, j] = covariance[j, i] = value if value is not None else 0.0
            found[arm] = Moments(tuple(columns), n, np.array(figures[: len(columns)], np.float64), covariance)
        return {arm: found[arm] for arm in self.spec.arms if arm in found}


def _wanted(spec: ExperimentSpec, source: Source) -> tuple[str, ...]:
    """The sums that the spec's metrics are made of. Raises SchemaMismatch for one that the log does not have."""
    metrics = [spec.metric(name) for name in spec.judged]
    asked = [part for metric in metrics for part in (metric.numerator, metric.denominator)]
    wanted = tuple(dict.fromkeys(["impressions", "clicks", *(name for name in asked if name != USERS)]))
    for name in wanted:
        if name not in ("impressions", "clicks") and name not in source.columns:
            raise SchemaMismatch(
                f"{source.words}: no column {name!r}, which a metric of experiment {spec.name} sums up; it has {', '.join(sorted(source.columns))}"
            )
    return wanted


def _moment(at: datetime) -> str:
    return f"'{at.astimezone(UTC).isoformat()}'::TIMESTAMPTZ"


__all__ = ["SEEN", "UserSums"]
