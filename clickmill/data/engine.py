"""The DuckDB connection behind every table: how much memory it may take, where it spills, how its errors read."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import ibis

from clickmill.errors import DataError, UnreadableData

DEFAULT_MEMORY = "1500MB"
"""What DuckDB may hold before it spills. Parquet writers and Python come on top: peak RSS stays under 3 GiB."""


# ibis 12 calls the Arrow results of a connection by names that DuckDB 2 has dropped. Same methods, old names.
def _fetch_arrow_table(con: Any) -> Any:
    return con.to_arrow_table()


def _fetch_record_batch(con: Any, rows_per_batch: int = 1_000_000) -> Any:
    return con.to_arrow_reader(rows_per_batch)


for _name, _method in (
    ("fetch_arrow_table", _fetch_arrow_table),
    ("fetch_record_batch", _fetch_record_batch),
):
    if not hasattr(duckdb.DuckDBPyConnection, _name):
        setattr(duckdb.DuckDBPyConnection, _name, _method)
# DuckDB 2 advises another API than the one ibis uses; what comes through here is schemas and small aggregates.
warnings.filterwarnings("ignore", message="Arrow output on a DB-API result", category=UserWarning)


def connect(
    *, memory_limit: str = DEFAULT_MEMORY, threads: int | None = None, temp_directory: Path | None = None
) -> Any:
    """An ibis DuckDB backend in memory whose sorts, joins and aggregates spill to `temp_directory` (default: the system's).

    `memory_limit` is DuckDB's notation (`"1500MB"`); `threads` defaults to the cores this process may use.
    """
    config: dict[str, Any] = {
        "memory_limit": memory_limit,
        "threads": threads or len(os.sched_getaffinity(0)),
    }
    if temp_directory is not None:
        config["temp_directory"] = str(temp_directory)
    backend = ibis.duckdb.connect(**config)
    backend.raw_sql("SET TimeZone = 'UTC'")
    backend.raw_sql("SET enable_progress_bar = false")
    return backend


@cache
def shared() -> Any:
    """The connection of this process that readers use when the caller gives none; tables of one connection can be joined."""
    return connect()


def quoted(text: str | Path) -> str:
    """`text` as an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def copy_to_parquet(table: ibis.Table, path: Path, *, row_group_rows: int = 100_000) -> int:
    """Stream a table into one Parquet file in its own order, whole or not at all; returns the rows written."""
    query = ibis.to_sql(table, dialect="duckdb")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    copy = (
        f"COPY ({query}) TO {quoted(partial)} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        f"ROW_GROUP_SIZE {row_group_rows})"
    )
    try:
        with engine_errors(path):
            rows = backend_of(table).raw_sql(copy).fetchall()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return int(rows[0][0])


def backend_of(table: ibis.Table) -> Any:
    """The connection a table lives in."""
    return table.get_backend()


def one_row(table: ibis.Table) -> Mapping[str, Any]:
    """The only row of an aggregate, as Python values."""
    rows = to_rows(table)
    assert len(rows) == 1, f"an aggregate has one row, not {len(rows)}"
    return rows[0]


def to_rows(table: ibis.Table) -> list[dict[str, Any]]:
    """A small result as a list of dicts; never used on data, only on counts."""
    with engine_errors(None):
        rows: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return rows


@contextmanager
def engine_errors(origin: Path | str | None) -> Iterator[None]:
    """Turn DuckDB's errors about files into ours. `origin` is what was being read or written, when it is known."""
    where = f"{origin}: " if origin is not None else ""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"{where}DuckDB ran out of memory: {_first_line(error)}. Give it more memory, or a temp folder with more room."
        ) from error
    except duckdb.IOException as error:
        text = _first_line(error)
        if "No space left" in text or "File too large" in text or "Could not write" in text:
            raise DataError(
                f"{where}could not be written: {text}. Free some space and run again; nothing was left behind."
            ) from error
        raise UnreadableData(
            f"{where}cannot be read: {text}. The file is truncated, gone or locked; copy it again."
        ) from error
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.SerializationException) as error:
        raise UnreadableData(
            f"{where}cannot be read: {_first_line(error)}. The file is damaged or not of the declared format; "
            "write it again, or correct `source.format` in the contract."
        ) from error


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C inside a query is a KeyboardInterrupt to the caller, as everywhere else in Python, and no RuntimeError."""
    try:
        yield
    except (RuntimeError, duckdb.InterruptException) as error:
        if "interrupt" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].removesuffix(".")
