"""Parquet in any layout, also folders partitioned as `date=.../hour=...`, whose partition columns stay outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import FeatureContract
from clickmill.data.engine import engine_errors, identifier
from clickmill.data.formats.scanned import ROW, Scanned, file_list, relation
from clickmill.errors import UnreadableData


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    """Row numbers come from the footers, so that files are read in parallel and only the columns asked for."""
    offsets, before = [], first_row
    for file in files:
        offsets.append(before)
        before += rows_of(file)
    # `file_index` counts from 0, DuckDB's lists from 1.
    number = f"({offsets!r})[file_index::BIGINT + 1] + file_row_number"
    source = f"read_parquet({file_list(files)}, hive_partitioning = false, union_by_name = true)"
    with engine_errors(files[0]):
        columns = con.raw_sql(f"DESCRIBE SELECT * FROM {source}").fetchall()
    # pandas writes nanoseconds with a zone, a type of DuckDB that ibis does not know; the contract has microseconds.
    coarser = ", ".join(
        f"{identifier(name)}::TIMESTAMPTZ AS {identifier(name)}"
        for name, kind, *_ in columns
        if kind in ("TIMESTAMPTZ_NS", "TIMESTAMP WITH TIME ZONE_NS")
    )
    everything = f"* REPLACE ({coarser})" if coarser else "*"
    query = f"SELECT {everything}, {number} AS {identifier(ROW)} FROM {source}"
    return Scanned(relation(con, files, query), text=False)


def rows_of(file: Path) -> int:
    """Rows by the footer; raises UnreadableData when there is no footer (a truncated file)."""
    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableData(
            f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]}). The file is truncated or of another "
            "format; copy it again, or correct `source.format` in the contract."
        ) from error
