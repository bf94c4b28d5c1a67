"""Answers as rows of the log: one row per candidate; of a fallback, one per candidate that it showed.

request_id     string            of the caller, or drawn by the endpoint
candidate      int32             place of the candidate in its request, from 0
time           timestamp[us]     UTC, when the answer was ready
model          string
bundle         string            digest of the bundle that answered
fallback       string            why its model did not (click rates did); null where it did. Such rows say nothing about the bundle
arm            string            of the experiment; null outside one
impression_id  string            where the contract names one and the caller sent it; null else. The click log refers to it
position       int32             slot the caller asked for; null where the contract has no position
slot           int32             of a ranking that may explore: slot in which this candidate was shown, from 1; null where it was not
propensity     float64           chance that it stands there, over the draws of the explorer; null where it was not shown
greedy         float64           the same without exploring: 1 or 0. What `clickmill experiment off-policy` reads
pctr, logit    float32
features       struct            what the model saw, by field, defaults filled in (of a fallback: nothing looked up); or
features_md5   string            a digest of it; or neither
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa

from clickmill.contract import FeatureContract, Role
from clickmill.errors import UsageError
from clickmill.features.raw import concat, to_arrow
from clickmill.prediction_log.personal import Salt


class Kept(StrEnum):
    """What is logged of the features."""

    VALUES = "values"
    DIGEST = "digest"
    NOTHING = "nothing"


@dataclass(frozen=True, eq=False, slots=True)
class Chances:
    """Where an explorer showed the n candidates of a ranking, and how likely that was."""

    slot: np.ndarray
    """(n,) int, from 1; 0 where a candidate was not shown."""
    propensity: np.ndarray
    """(n,) float64, P(this candidate in its slot); NaN where it was not shown."""
    greedy: np.ndarray
    """(n,) float64, 1 where the ranking without exploring has it in that slot, 0 where not; NaN where it was not shown."""


@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """One request that got its predictions; n candidates."""

    request_id: str
    time_us: int
    """Microseconds since 1970, UTC."""
    model: str
    bundle: str
    raw: dict[str, np.ndarray]
    """What the graph was given: `contract.inputs` by name, n rows each (see clickmill.features.tensors)."""
    pctr: np.ndarray
    """(n,) float32."""
    logit: np.ndarray
    """(n,) float32."""
    impression_ids: Sequence[str | None] | None = None
    arm: str | None = None
    fallback: str | None = None
    """Why the model did not answer."""
    candidates: Sequence[int] | None = None
    """(n,) places of the rows in their request; None where all of its candidates are here in order."""
    chances: Chances | None = None
    """None where nothing explores."""

    @property
    def rows(self) -> int:
        return len(self.pctr)


def to_table(
    answers: Sequence[Answered], contract: FeatureContract, kept: Kept, salt: Salt | None
) -> pa.Table:
    """Answers of one contract, at least one, as a table. Raises UsageError when personal values need a salt and there is none."""
    counts = [answer.rows for answer in answers]

    def each(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        return pa.array(np.repeat(np.array(values, dtype=object), counts), kind)

    impressions = [answer.impression_ids or [None] * answer.rows for answer in answers]
    columns = {
        "request_id": each([a.request_id for a in answers], pa.string()),
        "candidate": pa.array(np.concatenate([_places(answer) for answer in answers]), pa.int32()),
        "time": each([a.time_us for a in answers], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "model": each([a.model for a in answers], pa.string()),
        "bundle": each([a.bundle for a in answers], pa.string()),
        "fallback": each([a.fallback for a in answers], pa.string()),
        "arm": each([a.arm for a in answers], pa.string()),
        "impression_id": pa.array([i for ids in impressions for i in ids], pa.string()),
        "position": _position(answers, contract, sum(counts)),
        **_chances(answers),
        "pctr": pa.array(np.concatenate([a.pctr for a in answers]), pa.float32()),
        "logit": pa.array(np.concatenate([a.logit for a in answers]), pa.float32()),
    }
    if kept is not Kept.NOTHING:
        features = _features(answers, contract, salt)
        if kept is Kept.VALUES:
            columns["features"] = features
        else:
            columns["features_md5"] = _md5(features)
    return pa.table(columns)


def check_salt(contract: FeatureContract, kept: Kept, salt: Salt | None) -> None:
    """Raises UsageError when personal values would be logged and nothing hashes them."""
    personal = [name for name, field in contract.inputs.items() if field.personal]
    if personal and salt is None and kept is not Kept.NOTHING:
        raise UsageError(
            f"the prediction log would hold personal data ({', '.join(personal)}) unhashed; give a salt "
            "(CLICKMILL_LOG_SALT, at least 16 bytes), or log no features"
        )


def _chances(answers: Sequence[Answered]) -> dict[str, pa.Array]:
    def column(name: str, kind: pa.DataType) -> pa.Array:
        parts = [
            np.full(a.rows, np.nan) if a.chances is None else np.asarray(getattr(a.chances, name), np.float64)
            for a in answers
        ]
        values = np.concatenate(parts)
        return pa.array(values, mask=np.isnan(values) | (values == 0 if name == "slot" else False)).cast(kind)

    return {
        "slot": column("slot", pa.int32()),
        "propensity": column("propensity", pa.float64()),
        "greedy": column("greedy", pa.float64()),
    }


def _places(answer: Answered) -> np.ndarray:
    places = range(answer.rows) if answer.candidates is None else answer.candidates
    return np.fromiter(places, np.int32, answer.rows)


def _position(answers: Sequence[Answered], contract: FeatureContract, rows: int) -> pa.Array:
    name = contract.of_role(Role.POSITION)
    if name is None:
        return pa.nulls(rows, pa.int32())
    return pa.array(np.concatenate([a.raw[name] for a in answers]), pa.int64()).cast(pa.int32())


def _features(answers: Sequence[Answered], contract: FeatureContract, salt: Salt | None) -> pa.StructArray:
    check_salt(contract, Kept.VALUES, salt)
    table = to_arrow(concat([a.raw for a in answers]), contract)
    columns = []
    for name, field in contract.inputs.items():
        column = table.column(name).combine_chunks()
        if field.personal:
            assert salt is not None
            column = salt.hashed(column)
        columns.append(column)
    return pa.StructArray.from_arrays(columns, names=list(contract.inputs))


def _md5(features: pa.StructArray) -> pa.Array:
    """md5 of each row's text as DuckDB writes a struct: equal features, equal digest."""
    import duckdb

    table = pa.table({"features": features})
    with duckdb.connect() as connection:
        connection.register("answers", table)
        found = connection.sql("SELECT md5(features::VARCHAR) AS digest FROM answers").to_arrow_table()
    return found.column("digest").combine_chunks().cast(pa.string())
