"""What a reader of a format hands on: the source's own columns, not yet named or typed by the contract."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis

from clickmill.data.engine import engine_errors, identifier, quoted

ROW = "__row__"
"""Number of the row in the source, from 0, counted over all files in their order."""

TEST = "__test__"
"""True on the rows of separate test files, where there are any."""

MALFORMED = "__malformed__"
"""Text of a line that is not of the format; null where the line is fine."""

REJECTS = "clickmill_rejects"
"""Temporary table in which DuckDB notes CSV lines with too few or too many columns."""


@dataclass(frozen=True)
class Scanned:
    """Columns by their source names plus `__row__`, and `__malformed__` where lines can be broken as a whole."""

    table: ibis.Table
    text: bool
    """Text columns may be parsed into numbers and times; False where the file has types of its own (Parquet)."""
    timestamp_format: str | None = None
    """How this format writes time, unless the contract's source says otherwise."""
    clockless: bool = False
    """The format has no time: `event_time` becomes 1970-01-01 + row number seconds."""


def relation(con: Any, files: Sequence[Path], query: str) -> ibis.Table:
    """`query` as a lazy table; DuckDB looks at the files here to learn their columns.

    A view rather than SQL text inside the expression: ibis parses text anew in every query, and a list of thousands of
    files is long.
    """
    name = f"scan_{uuid.uuid4().hex}"
    with engine_errors(files[0]):
        con.raw_sql(f"CREATE TEMPORARY VIEW {name} AS {query}")
        return con.table(name, database=("temp", "main"))


def file_list(files: Sequence[Path]) -> str:
    """The files as an SQL list."""
    return "[" + ", ".join(quoted(file) for file in files) + "]"


def csv_scan(
    files: Sequence[Path],
    *,
    delimiter: str | None,
    header: bool,
    names: Sequence[str] | None = None,
    quote: str = '"',
) -> str:
    """`read_csv(...)` with every column as text: empty cells and `\\N` are null, misshapen lines go to the rejects table."""
    options = [
        file_list(files),
        "all_varchar = true",
        f"header = {str(header).lower()}",
        f"quote = {quoted(quote)}",
        f"escape = {quoted(quote)}",
        "nullstr = ['', '\\N']",
        "hive_partitioning = false",
        "store_rejects = true",
        f"rejects_table = {quoted(REJECTS)}",
        f"rejects_scan = {quoted(REJECTS + '_scans')}",
        "rejects_limit = 0",
    ]
    if delimiter is not None:
        options.append(f"delim = {quoted(delimiter)}")
    if names is not None:
        if delimiter is not None:
            columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
            options[1] = "auto_detect = false"
            options.append(f"columns = {{{columns}}}")
        else:
            options.append("names = [" + ", ".join(quoted(name) for name in names) + "]")
    return f"read_csv({', '.join(options)})"


def line_scan(files: Sequence[Path]) -> str:
    """Every non-empty line as one text column `line`: for layouts that are no table."""
    # A control character that no text file holds keeps the line in one piece.
    return (
        f"(SELECT line FROM read_csv({file_list(files)}, auto_detect = false, header = false, "
        f"columns = {{'line': 'VARCHAR'}}, delim = {quoted(chr(1))}, quote = '', escape = '', "
        "hive_partitioning = false) WHERE line IS NOT NULL AND trim(line) <> '')"
    )


def numbered(source: str, first_row: int = 0) -> str:
    """A query that adds `__row__` to a scan, in the order of the files."""
    return f"SELECT *, row_number() OVER () + {first_row - 1} AS {identifier(ROW)} FROM {source}"
