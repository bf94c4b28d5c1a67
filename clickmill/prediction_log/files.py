"""The log on disk: Parquet files that are whole or not there, a folder per day.

    FOLDER/day=2026-11-24/20261124T091618.123456Z-WRITER-000001.parquet

Hive's layout, which DuckDB, Spark and ibis read as one table with `day` as a column. All rows of a file come from one bundle.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.disk import sync
from clickmill.errors import UsageError

PARTIAL = ".partial"
_WRITER = re.compile(r"[A-Za-z0-9._-]{1,100}")


class LogFolder:
    """Writes tables into a log folder under the name of one writer, say host and process: writers never share a file."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Make the folder; remove what this writer left unfinished. Raises UsageError when it can't be written."""
        if not _WRITER.fullmatch(writer):
            raise UsageError(
                f"writer {writer!r} of the prediction log: only letters, digits, `.`, `_` and `-`"
            )
        self.folder, self._writer, self._number = folder, writer, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{writer}{PARTIAL}"
            probe.touch()
            probe.unlink()
            for left in folder.glob(f"day=*/.*{PARTIAL}"):
                if re.fullmatch(rf"\.[0-9T.]+Z-{re.escape(writer)}-\d+\.parquet{PARTIAL}", left.name):
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"{folder}: the prediction log can't be written there ({error.strerror}); give a folder you may write to"
            ) from error

    def write(self, table: pa.Table) -> Path:
        """Write rows, all of one day and bundle, and return the file; fsynced, then renamed.

        Raises OSError (disk full, gone) and leaves nothing half.
        """
        first = datetime.fromtimestamp(table.column("time")[0].cast(pa.int64()).as_py() / 1e6, UTC)
        self._number += 1
        name = f"{first:%Y%m%dT%H%M%S.%fZ}-{self._writer}-{self._number:06d}.parquet"
        day = self.folder / f"day={first:%Y-%m-%d}"
        day.mkdir(exist_ok=True)
        partial = day / f".{name}{PARTIAL}"
        try:
            with partial.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            partial.rename(day / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync(day)
        return day / name


def log_files(folder: Path) -> list[Path]:
    """The finished files, oldest first. Those being written, and strangers, are passed over."""
    return sorted(folder.glob("day=*/[!.]*.parquet"), key=lambda path: path.name)
