"""Columns of a log with propensities, from Parquet or CSV (gzip too)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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

    layout = side_format(log)
    scan = (
        "read_parquet({}, union_by_name = true)"
        if layout is Format.PARQUET
        else "read_csv({}, header = true)"
    )
    source = scan.format(file_list(resolve(log, layout)))
    with engine_errors(log), duckdb.connect() as con:
        there = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in there:
                raise SchemaMismatch(f"{log}: no column {name!r}; it has {', '.join(there)}")
        return con.execute(f"SELECT {', '.join(map(identifier, wanted))} FROM {source}").df()


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
