"""Which arm a user is in: a salted hash, so that it needs no memory, is the same on every machine, and is known before the user comes.

    u(key, user) = first 53 of the 64 bits of MD5(key, user) / 2^53          uniform in [0, 1)

One number per purpose, each with its own key, so that layers, ramp and arms are independent of each other: whoever comes in as the ramp
grows is split like all before. MD5 is here a fast even hash that Python and DuckDB have alike, not a secret.

Kohavi, Tang, Xu, "Trustworthy Online Controlled Experiments", 2020, chapter 12; layers: Tang et al., KDD 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import md5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.errors import DataError
from clickmill.experiment.spec import HOLDOUT, ExperimentSpec

_BETWEEN = "\x1f"
"""Stands in no key and hardly in a user's id, so that ("a", "bc") and ("ab", "c") differ."""


class Place(StrEnum):
    """Where a user stands to an experiment."""

    IN = "in"
    """Has an arm."""
    HOLDOUT = "holdout"
    """In no experiment at all, whenever it runs."""
    ELSEWHERE = "elsewhere"
    """In the part of the layer that other experiments own."""
    NOT_YET = "not_yet"
    """Comes in when the ramp grows."""
    NOT_NOW = "not_now"
    """The experiment has not begun, or is over."""


@dataclass(frozen=True)
class Assigned:
    """Of one user."""

    place: Place
    arm: str | None
    """None unless the place is `IN`."""

    @property
    def logged(self) -> str | None:
        """What is logged as the arm: those who are held out have a name too, or nobody could compare them with the others."""
        return HOLDOUT if self.place is Place.HOLDOUT else self.arm


def assign(spec: ExperimentSpec, user: str, now: datetime | None = None) -> Assigned:
    """The arm of a user. `now` (with a time zone) is held against the start and the end; without it they do not count.

    Raises DataError for an empty user: all who come without an id would be one user in one arm.

    >>> spec = ExperimentSpec(name="example", arms={"a": {}, "b": {}}, control="a")
    >>> assign(spec, "u1") == assign(spec, "u1")
    True
    """
    if not user:
        raise DataError(
            f"field `{spec.unit}`: a user without an id can't be assigned; leave such requests out of the experiment"
        )
    if spec.holdout and uniform(_HOLDOUT, user) < spec.holdout:
        return Assigned(Place.HOLDOUT, None)
    if now is not None and not (
        (spec.start is None or spec.start <= now) and (spec.end is None or now < spec.end)
    ):
        return Assigned(Place.NOT_NOW, None)
    if not spec.share[0] <= uniform(_layer(spec), user) < spec.share[1]:
        return Assigned(Place.ELSEWHERE, None)
    if uniform(_ramp(spec), user) >= spec.ramp:
        return Assigned(Place.NOT_YET, None)
    at = int(np.searchsorted(_edges(spec), uniform(_arm(spec), user), side="right"))
    return Assigned(Place.IN, list(spec.arms)[at])


def uniform(key: str, user: str) -> float:
    """In [0, 1), from both.

    >>> 0 <= uniform("salt", "u1") < 1
    True
    """
    digest = md5((key + _BETWEEN + user).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8], "little") >> 11) / 2.0**53


def assign_all(spec: ExperimentSpec, users: Sequence[str] | pa.Array) -> pa.Table:
    """Of many users at once, by DuckDB: columns `user`, `place`, `arm` (null unless in), in the order given.

    Says of each what `assign` says without a time. Raises DataError for an empty or null user.
    """
    import duckdb

    column = pa.array(users, pa.string())
    bad = np.flatnonzero(pc.fill_null(pc.equal(column, ""), True).to_numpy(zero_copy_only=False))
    if len(bad):
        raise DataError(f"field `{spec.unit}`, row {bad[0]}: a user without an id can't be assigned")
    table = pa.table({"id": column, "number": np.arange(len(column))})
    with duckdb.connect() as connection:
        connection.register("given", table)
        found: pa.Table = connection.sql(
            f"SELECT id AS user, {place_sql(spec, 'id')} AS place, "
            f"CASE WHEN place = 'in' THEN {arm_sql(spec, 'id')} END AS arm FROM given ORDER BY number"
        ).to_arrow_table()
    return found


def place_sql(spec: ExperimentSpec, user: str) -> str:
    """The SQL expression (DuckDB) of a user's place; `user` is an expression of type VARCHAR."""
    low, high = spec.share
    return (
        f"CASE WHEN {_uniform_sql(_HOLDOUT, user)} < {_number(spec.holdout)} THEN '{Place.HOLDOUT}' "
        f"WHEN NOT ({_uniform_sql(_layer(spec), user)} >= {_number(low)} AND {_uniform_sql(_layer(spec), user)} < {_number(high)}) THEN '{Place.ELSEWHERE}' "
        f"WHEN {_uniform_sql(_ramp(spec), user)} >= {_number(spec.ramp)} THEN '{Place.NOT_YET}' ELSE '{Place.IN}' END"
    )


def arm_sql(spec: ExperimentSpec, user: str) -> str:
    """The SQL expression of the arm of a user who is in."""
    u = _uniform_sql(_arm(spec), user)
    cases = " ".join(
        f"WHEN {u} < {_number(edge)} THEN {_text(name)}"
        for name, edge in zip(spec.arms, _edges(spec).tolist(), strict=False)
    )
    return f"CASE {cases} ELSE {_text(list(spec.arms)[-1])} END"


_HOLDOUT = "clickmill/holdout"


def _layer(spec: ExperimentSpec) -> str:
    return f"clickmill/layer/{spec.layer}"


def _ramp(spec: ExperimentSpec) -> str:
    return f"{spec.seed}/ramp"


def _arm(spec: ExperimentSpec) -> str:
    return f"{spec.seed}/arm"


def _edges(spec: ExperimentSpec) -> np.ndarray:
    """Upper ends of all arms but the last."""
    return np.cumsum(list(spec.weights.values()))[:-1]


def _uniform_sql(key: str, user: str) -> str:
    return f"((md5_number_upper(concat({_text(key)}, chr(31), {user})) >> 11)::DOUBLE / 9007199254740992.0)"


def _number(value: float) -> str:
    return f"'{value!r}'::DOUBLE"  # a bare literal would be a DECIMAL, and an edge off by its last bit


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


__all__ = ["Assigned", "Place", "arm_sql", "assign", "assign_all", "place_sql", "uniform"]
