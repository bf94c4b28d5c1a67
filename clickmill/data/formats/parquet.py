"""Parquet in any layout, also folders partitioned as `date=.../hour=...`, whose partition columns stay outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import FeatureContract
from clickmill.data.engine import identifier
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
    query = (
        f"SELECT *, {number} AS {identifier(ROW)} FROM read_parquet({file_list(files)}, "
        "hive_partitioning = false, union_by_name = true)"
    )
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
