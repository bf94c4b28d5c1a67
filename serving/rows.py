"""Rows of a table as a request carries them: JSON values, timestamps in whole seconds since 1970."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def json_columns(table: pa.Table, columns: Iterable[str] | None = None) -> pa.Table:
    """The named columns (all that exist when None) in types JSON has; dictionary columns are decoded."""
    names = [name for name in (columns or table.column_names) if name in table.column_names]
    chosen = table.select(names)
    for index, field in enumerate(chosen.schema):
        kind = field.type
        column = chosen.column(index)
        if pa.types.is_dictionary(kind):
            chosen = chosen.set_column(index, field.name, column.cast(kind.value_type))
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            micros = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
            # floor: the seconds before 1970 count downwards
            seconds = pc.floor(pc.divide(micros.cast(pa.float64()), 1e6)).cast(pa.int64())
            chosen = chosen.set_column(index, field.name, seconds)
        elif pa.types.is_decimal(kind):
            chosen = chosen.set_column(index, field.name, column.cast(pa.float64()))
    return chosen


def json_rows(table: pa.Table, columns: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Rows as dicts of JSON values; nulls are left out, so that the endpoint takes the contract's default."""
    rows = json_columns(table, columns).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Slices of at most `rows` rows, in order."""
    return (table.slice(start, rows) for start in range(0, table.num_rows, rows))


def example_row(bundle: Path, columns: Iterable[str]) -> dict[str, Any]:
    """First golden row of a bundle: a request that is known to work."""
    with pq.ParquetFile(bundle / "golden.parquet") as file:
        first = next(file.iter_batches(batch_size=1))
    return json_rows(pa.Table.from_batches([first]), columns)[0]
