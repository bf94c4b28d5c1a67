"""Where the impressions of an experiment come from: a log of its own, or prediction log and click log of a running endpoint.

A log of its own has a row per impression, in Parquet or CSV:

    <unit>      the field that the spec names, say user_id
    arm         of the impression; null for users outside of the experiment, and before it began; holdout for those who are held out
    time        with a time zone (timestamp[us, UTC] in Parquet, 2026-03-02T09:30:00+01:00 in text)
    clicked     0 or 1
    revenue     what the impression earned, at least 0; only where a metric asks for it
    shown       0 where the user was in the experiment and saw nothing, such as below a reserve price: the user counts, an impression does
                not. May be left out where everybody who came saw something
    impression_id, and columns of slices and metrics as the spec names them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from clickmill.data.engine import identifier, quoted
from clickmill.errors import SchemaMismatch, UnreadableData
from clickmill.experiment.spec import HOLDOUT, SHIPPED, ExperimentSpec

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".jsonl": "read_json", ".json": "read_json"}
_LOGS = (".parquet", ".csv")
_OFFSET = r"(Z|[+-]\d\d(:?\d\d)?)$"


@dataclass(frozen=True)
class Source:
    """A relation of impressions, as SQL."""

    sql: str
    columns: frozenset[str]
    words: str
    """What to call it in messages."""


def log(connection: Any, paths: Sequence[Path], spec: ExperimentSpec) -> Source:
    """A log of its own. Raises UnreadableData without a file, SchemaMismatch for a missing column or a time without a zone."""
    files = _files(paths, _LOGS)
    words = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    listed = "[" + ", ".join(quoted(path) for path in files) + "]"
    is_text = files[0].suffix == ".csv"
    # Text times are read as they stand: DuckDB would take one without a zone for UTC and say nothing.
    more = ", types = {'time': 'VARCHAR'}" if is_text else ""
    scan = f"{_READERS[files[0].suffix]}({listed}, union_by_name = true{more})"
    types = _types(connection, scan, words)
    missing = sorted({spec.unit, "arm", "time", "clicked"} - types.keys())
    if missing:
        raise SchemaMismatch(
            f"{words}: no column {missing[0]!r}; the log of an experiment has {spec.unit}, arm, time and clicked, this one has {', '.join(types)}"
        )
    if not is_text:
        _zoned(connection, files)
        return Source(f"SELECT * FROM {scan}", frozenset(types), words)
    at = connection.execute(
        f"SELECT number, time FROM (SELECT row_number() OVER () - 1 AS number, time FROM {scan}) "
        f"WHERE time IS NOT NULL AND NOT regexp_matches(time, {quoted(_OFFSET)}) ORDER BY number LIMIT 1"
    ).fetchone()
    if at is not None:
        raise SchemaMismatch(
            f"{words}: field `time`, row {at[0]}: {at[1]!r} has no time zone, so that days and looks would mix; write it like 2026-03-02T09:30:00+01:00"
        )
    return Source(f"SELECT * REPLACE (time::TIMESTAMPTZ AS time) FROM {scan}", frozenset(types), words)


def joined(
    connection: Any,
    predictions: Sequence[Path],
    clicks: Sequence[Path],
    spec: ExperimentSpec,
    *,
    attribution: timedelta,
) -> Source:
    """What an endpoint answered, and the clicks on it, where the attribution window is over.

    predictions: files of the prediction log, with the arm and the values of `spec.unit` and of the slices among its features (hashed or
    not). Who was ranked for and shown nothing is in it as a row that is not `shown`: an arm that sells less must not lose those users.
    clicks: files with impression_id and click_time, and `price`, what the click earned, where revenue is measured. Only predictions
    with an impression id count; of several clicks on one the first does. What a fallback showed counts in its user's arm like all else: arms are
    compared by what their users got (intention to treat), and an arm that overloads its endpoint has that to answer for. Raises UnreadableData without a file, SchemaMismatch for a field that the log does not keep.
    """
    shown = _files(predictions, (".parquet",))
    scan = f"read_parquet([{', '.join(quoted(path) for path in shown)}], hive_partitioning = false, union_by_name = true)"
    words = "prediction log"
    features = _features(connection, scan, words)
    kept = [spec.unit, *spec.slices]
    for name in kept:
        if name not in features:
            raise SchemaMismatch(
                f"{words}: keeps no values of field `{name}`; serve with --log-features values, or take another field"
            )
    values = ", ".join(f"features.{identifier(name)} AS {identifier(name)}" for name in kept)
    named = f"(arm IS NOT NULL OR features.{identifier(spec.unit)}::VARCHAR <> '')"
    window = f"to_microseconds({round(attribution.total_seconds() * 1e6)})"
    first = "SELECT NULL::VARCHAR AS impression_id, NULL::TIMESTAMPTZ AS click_time, NULL::DOUBLE AS price WHERE false"
    priced = False
    if clicks:
        parts = []
        for path in _files(clicks, tuple(_READERS)):
            reader = f"{_READERS[path.suffix]}({quoted(path)})"
            has = _types(connection, reader, str(path))
            priced = priced or "price" in has
            price = "price::DOUBLE" if "price" in has else "NULL::DOUBLE"
            parts.append(
                f"SELECT impression_id::VARCHAR AS impression_id, click_time::TIMESTAMPTZ AS click_time, {price} AS price FROM {reader}"
            )
        first = f"SELECT impression_id, min(click_time) AS click_time, arg_min(price, click_time) AS price FROM ({' UNION ALL '.join(parts)}) GROUP BY 1"
    hit = f"(c.click_time IS NOT NULL AND c.click_time <= p.time + {window})"
    sql = (
        f"SELECT p.*, {hit}::INTEGER AS clicked, CASE WHEN {hit} THEN coalesce(c.price, 0) ELSE 0 END AS revenue FROM ("
        f"SELECT impression_id, arm, time, {values}, (impression_id IS NOT NULL)::INTEGER AS shown FROM {scan} "
        f"WHERE (impression_id IS NOT NULL OR (candidate = 0 AND {named})) AND time <= now() - {window} "
        "QUALIFY impression_id IS NULL OR row_number() OVER (PARTITION BY impression_id ORDER BY time) = 1"
        f") p LEFT JOIN ({first}) c USING (impression_id)"
    )
    columns = {"arm", "time", "clicked", "shown", *kept} | ({"revenue"} if priced else set())
    return Source(sql, frozenset(columns), "prediction log joined with clicks")


def inside(source: Source, spec: ExperimentSpec) -> Source:
    """As the experiment sees it: who is held out is in no arm."""
    return _relabelled(source, f"nullif(arm, '{HOLDOUT}')") if spec.holdout else source


def beside_holdout(source: Source) -> Source:
    """As `spec.of_holdout` sees it: whoever is not held out is in the arm of what was shipped, in an experiment or not."""
    return _relabelled(source, f"CASE WHEN arm = '{HOLDOUT}' THEN '{HOLDOUT}' ELSE '{SHIPPED}' END")


def _relabelled(source: Source, arm: str) -> Source:
    return replace(source, sql=f"SELECT * REPLACE ({arm} AS arm) FROM ({source.sql})")


def _files(paths: Sequence[Path], kinds: Sequence[str]) -> list[Path]:
    """Of one kind where it is a log. Raises UnreadableData."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix in kinds and not p.name.startswith("."))
        if path.suffix in kinds and path.is_file():
            inside = [path]
        if not inside:
            raise UnreadableData(f"{path}: no such file, or a folder without any of {', '.join(kinds)}")
        found += inside
    mixed = sorted({path.suffix for path in found})
    if not found or (kinds is _LOGS and len(mixed) > 1):
        raise UnreadableData(
            f"the log of an experiment: need files of one kind; got {', '.join(mixed) or 'none'}"
        )
    return found


def _types(connection: Any, scan: str, words: str) -> dict[str, str]:
    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        raise UnreadableData(f"{words}: cannot be read ({str(error).splitlines()[0]})") from error
    return {row[0]: row[1] for row in rows}


def _features(connection: Any, scan: str, words: str) -> set[str]:
    types = _types(connection, scan, words)
    if not types.get("features", "").startswith("STRUCT"):
        return set()
    rows = connection.execute(f"DESCRIBE SELECT features.* FROM {scan}").fetchall()
    return {row[0] for row in rows}


def _zoned(connection: Any, files: Sequence[Path]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        schema = pq.read_schema(path)
        kind = schema.field("time").type if "time" in schema.names else pa.null()
        if not (pa.types.is_timestamp(kind) and kind.tz):
            raise SchemaMismatch(
                f"{path}: field `time` is {kind}, without a time zone, so that days and looks would mix; write timestamp[us, tz=UTC]"
            )


__all__ = ["Source", "beside_holdout", "inside", "joined", "log"]
