"""Columns of a log with propensities, from Parquet or CSV (gzip too), or from the prediction log of an endpoint that explores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clickmill.contract import Format
from clickmill.data.engine import engine_errors, identifier
from clickmill.data.files import resolve, side_format
from clickmill.data.formats.scanned import file_list
from clickmill.errors import DataError, SchemaMismatch


def columns(log: Path, names: Iterable[str]) -> pd.DataFrame:
    """Those columns of all files of `log`, in their order. Raises UnreadableData for no file or a broken one, SchemaMismatch naming a
    column that is not there."""
    import duckdb

    with engine_errors(log), duckdb.connect() as con:
        return _selected(con, _scan(log), names, log)


def clicked(log: Path, clicks: Path, names: Iterable[str], *, attribution: timedelta) -> Joined:
    """Those columns of what an exploring endpoint showed, from its prediction log joined with a click log.

    log: the folder of a prediction log. clicks: files with impression_id and click_time, perhaps `price`. Beside the log's own columns
    there are `click`, 1 where the first click on the impression came within `attribution`, and `revenue`, that click's price. Impressions
    that are younger wait; of several rows of one impression the first counts. Raises as `columns`, and SchemaMismatch for a log whose
    endpoint did not explore.
    """
    import duckdb

    window = f"to_microseconds({round(attribution.total_seconds() * 1e6)})"
    with duckdb.connect() as con:
        with engine_errors(clicks):
            came = _scan(clicks)
            _there(con, came, ("impression_id", "click_time"), clicks)
            price = "price::DOUBLE" if "price" in _names(con, came) else "NULL::DOUBLE"
        with engine_errors(log):
            shown = _scan(log)
            _there(con, shown, ("impression_id", "time", "propensity"), log)
            ripe = f"(SELECT * REPLACE (time::TIMESTAMPTZ AS time) FROM {shown} WHERE impression_id IS NOT NULL AND time::TIMESTAMPTZ <= now() - {window})"
            counts = con.execute(
                f"SELECT count(*), count(propensity) FROM (SELECT DISTINCT impression_id, propensity FROM {ripe})"
            ).fetchone()
            rows, weighed = counts or (0, 0)
            if not weighed:
                raise SchemaMismatch(
                    f"{log}: none of its {rows:,} impressions that are older than {attribution} has a propensity; serve with --explore, and let "
                    "rankings name themselves (request_id)"
                )
            hit = f"(c.click_time IS NOT NULL AND c.click_time <= p.time + {window})"
            joined = (
                f"(SELECT p.*, {hit}::INTEGER AS click, CASE WHEN {hit} THEN coalesce(c.price, 0) ELSE 0 END AS revenue FROM ("
                f"SELECT * FROM {ripe} WHERE propensity IS NOT NULL QUALIFY row_number() OVER (PARTITION BY impression_id ORDER BY time) = 1"
                ") p LEFT JOIN (SELECT impression_id::VARCHAR AS impression_id, min(click_time)::TIMESTAMPTZ AS click_time, "
                f"arg_min({price}, click_time) AS price FROM {came} GROUP BY 1) c USING (impression_id))"
            )
            return Joined(_selected(con, joined, names, log), rows - weighed)


@dataclass(frozen=True, eq=False)
class Joined:
    """Impressions with their clicks."""

    frame: pd.DataFrame
    without: int
    """Impressions left out, since no explorer showed them: fallbacks, and what was answered before it began."""


def _scan(log: Path) -> str:
    layout = side_format(log)
    scan = (
        "read_parquet({}, union_by_name = true)"
        if layout is Format.PARQUET
        else "read_csv({}, header = true)"
    )
    return scan.format(file_list(resolve(log, layout)))


def _names(con: Any, source: str) -> list[str]:
    return [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]


def _there(con: Any, source: str, names: Iterable[str], log: Path) -> None:
    there = _names(con, source)
    for name in names:
        if name not in there:
            near = get_close_matches(name, there, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise SchemaMismatch(f"{log}: no column {name!r}{meant}; it has {', '.join(there)}")


def _selected(con: Any, source: str, names: Iterable[str], log: Path) -> pd.DataFrame:
    wanted = list(dict.fromkeys(names))
    _there(con, source, wanted, log)
    frame: pd.DataFrame = con.execute(f"SELECT {', '.join(map(identifier, wanted))} FROM {source}").df()
    return frame


def numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    """(n,) float64, NaN where null. Raises SchemaMismatch for a column of another type, with its first value."""
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values.dtype):
        first = values.dropna().iloc[:1].tolist()
        raise SchemaMismatch(
            f"{column} must hold numbers, it holds {values.dtype}: {first[0]!r}"
            if first
            else f"{column} is empty"
        )
    return values.to_numpy(np.float64, na_value=np.nan)


def chances(frame: pd.DataFrame, column: str, place: str | None) -> np.ndarray:
    """(n,) chances of what was shown. A column of lists (`slot_chances`) holds one per place: `place` (1, 2, ...) picks it.

    Raises DataError for a row without, for lists without `place`, and for a place beyond its list; SchemaMismatch for what is no number.
    """
    values = frame[column]
    if values.isna().any():
        raise DataError(
            f"{column}: row {int(values.isna().to_numpy().argmax())} has none; a row without its chance cannot be weighed"
        )
    if not len(values) or not isinstance(values.iloc[0], np.ndarray):
        return numbers(frame, column)
    if place is None:
        raise DataError(
            f"{column} holds a list per row, one chance per place: name the column of places (--place)"
        )
    lengths = values.map(len).to_numpy()
    at = numbers(frame, place) - 1
    bad = ~((at >= 0) & (at < lengths) & (at == np.floor(at)))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{column}: row {row} has {lengths[row]} places, its {place} is {at[row] + 1:g}")
    starts = np.cumsum(lengths) - lengths
    return np.concatenate(values.to_numpy()).astype(np.float64)[starts + at.astype(np.int64)]
