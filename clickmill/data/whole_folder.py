"""Folders that appear whole or not at all: made in a hidden neighbour, renamed when done."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickmill.errors import DataError, UsageError


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same file system, gone afterwards whatever happens."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    work.mkdir()
    try:
        yield work
    except OSError as error:
        raise DataError(
            f"{out}: could not be written ({error.strerror or error}). Free some space and run again; nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def refuse_foreign(out: Path, marker: str) -> None:
    """Raises UsageError when something stands at `out` that is neither an empty folder nor one that holds `marker`."""
    if out.is_file() or (out.is_dir() and not (out / marker).is_file() and any(out.iterdir())):
        raise UsageError(
            f"{out}: exists and was not made by this step (no {marker} in it); name another folder or remove it"
        )


def put_in_place(made: Path, out: Path, work: Path) -> None:
    """Move the folder `made` to `out`; what stood there goes into `work`, and back should the move fail."""
    replaced = work / "replaced"
    if out.is_dir():
        out.rename(replaced)
    try:
        made.rename(out)
    except OSError:
        if replaced.is_dir():
            replaced.rename(out)
        raise
