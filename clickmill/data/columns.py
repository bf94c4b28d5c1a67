"""What a data file's columns look like: types, distinct values, ranges, gaps, by one streaming pass of DuckDB."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickmill.contract import Format, Source
from clickmill.data import engine, files
from clickmill.errors import UnreadableData

SAMPLE_ROWS = 2_000_000
"""Rows looked at; a draft is read by people before it is used, and the first millions say enough."""


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a file."""

    name: str
    kind: str
    """DuckDB's type, upper case: VARCHAR, BIGINT, TIMESTAMP WITH TIME ZONE, VARCHAR[], ..."""
    distinct: int
    """Different values, about."""
    nulls: float
    """Share of missing values."""
    least: str | None
    """As text; None where the column is empty."""
    greatest: str | None
    upper_quartile: float | None
    """75 % quantile of a number."""

    @property
    def is_integer(self) -> bool:
        return self.kind in (
            "TINYINT",
            "SMALLINT",
            "INTEGER",
            "BIGINT",
            "UTINYINT",
            "USMALLINT",
            "UINTEGER",
            "UBIGINT",
        )

    @property
    def is_fraction(self) -> bool:
        return self.kind in ("FLOAT", "DOUBLE") or self.kind.startswith("DECIMAL")

    @property
    def is_time(self) -> bool:
        return self.kind == "DATE" or self.kind.startswith("TIMESTAMP")

    @property
    def span(self) -> tuple[float, float] | None:
        """Least and greatest of a number; None where it has none."""
        if self.least is None or self.greatest is None or not (self.is_integer or self.is_fraction):
            return None
        return float(self.least), float(self.greatest)


@dataclass(frozen=True)
class FileFacts:
    """A file (or a folder of them) as one table."""

    source: Source
    rows: int
    """Rows looked at."""
    columns: tuple[ColumnFacts, ...]


def look_at(path: Path | str) -> FileFacts:
    """Facts of a Parquet or CSV file, or a folder of them. Raises UnreadableData, also for layouts that have a contract ready."""
    path = Path(path)
    layout = _layout(path)
    found = files.resolve(path, layout)
    con = engine.connect()
    try:
        if layout is Format.PARQUET:
            source, scan = Source(format=layout), f"read_parquet({_list(found)}, hive_partitioning = false)"
        else:
            source, scan = _csv(con, found)
        with engine.engine_errors(found[0]):
            summary = con.raw_sql(f"SUMMARIZE SELECT * FROM {scan} LIMIT {SAMPLE_ROWS}")
            names = [column[0] for column in summary.description]
            table = [dict(zip(names, row, strict=True)) for row in summary.fetchall()]
    finally:
        con.disconnect()
    rows = int(table[0]["count"]) if table else 0
    if rows == 0:
        raise UnreadableData(f"{found[0]}: holds no rows; a contract can't be drafted from nothing")
    return FileFacts(source, rows, tuple(_facts(row, rows) for row in table))


def _facts(row: dict[str, Any], rows: int) -> ColumnFacts:
    kind = str(row["column_type"]).upper()
    number = re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL)", kind) and "[" not in kind
    return ColumnFacts(
        name=str(row["column_name"]),
        kind=kind,
        # DuckDB estimates; more values than rows there can't be.
        distinct=min(int(row["approx_unique"]), rows),
        nulls=float(row["null_percentage"] or 0) / 100,
        least=row["min"],
        greatest=row["max"],
        upper_quartile=float(row["q75"]) if number and row["q75"] is not None else None,
    )


def _layout(path: Path) -> Format:
    if path.is_dir():
        return Format.PARQUET if any(path.rglob("*.parquet")) else Format.CSV
    return files.side_format(path)


def _csv(con: Any, found: tuple[Path, ...]) -> tuple[Source, str]:
    _refuse_published_layout(found[0])
    with engine.engine_errors(found[0]):
        sniffed = con.raw_sql(
            f"SELECT Delimiter, HasHeader FROM sniff_csv({engine.quoted(found[0])})"
        ).fetchall()
    delimiter, header = sniffed[0]
    if not header:
        raise UnreadableData(
            f"{found[0]}: has no header line, so that its columns have no names to draft a contract from; add one, or "
            "write the contract by hand with `source.header: false`"
        )
    source = Source(format=Format.CSV, delimiter=delimiter)
    scan = f"read_csv({_list(found)}, delim = {engine.quoted(delimiter)}, header = true, hive_partitioning = false)"
    return source, scan


_PUBLISHED = {
    r"[+-]?\d+(\.\d+)?(\s+\d+:\d+:\S+)+\s*": "libffm",
    r"[+-]?\d+(\.\d+)?(\s+\d+:\S+)+\s*": "libsvm (see contracts/ipinyou.yaml)",
    r"[01](\t[^\t]*){39}": "criteo",
    r"\S+::\S+::[\d.]+::\d+\s*": "movielens",
}


def _refuse_published_layout(file: Path) -> None:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            line = stream.readline().rstrip("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableData(
            f"{file}: cannot be read as text ({error}); give a Parquet or CSV file"
        ) from error
    for shape, name in _PUBLISHED.items():
        if re.fullmatch(shape, line):
            raise UnreadableData(
                f"{file}: is of format {name}, which has no column names to draft a contract from; "
                "start from the contract of that format in contracts/"
            )


def _list(found: tuple[Path, ...]) -> str:
    return "[" + ", ".join(engine.quoted(file) for file in found) + "]"
