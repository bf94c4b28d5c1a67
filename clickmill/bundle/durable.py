"""A folder that is there whole or not at all: temp folder beside it, fsync, one rename."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickmill.disk import sync
from clickmill.errors import BundleError

PARTIAL = ".partial"
"""Ending of the temp folders; whatever reads a folder of bundles passes over them."""

_FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
}
_FULL_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    " requested and ": errno.ENOSPC,  # NumPy, of an array that went in part only; it keeps no errno
}


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a temp folder that becomes `out` when the block ends well, and nothing when it doesn't.

    Every file and folder is fsynced before the rename, and the parent after it: a power cut leaves all or nothing.
    `out` may be absent or an empty folder. Raises BundleError when it is not, and when the disk is full.
    """
    out = out.absolute()
    temp = out.parent / f".{out.name}.{secrets.token_hex(4)}{PARTIAL}"
    try:
        temp.mkdir(parents=True)
    except OSError as error:
        raise BundleError(
            f"{out}: cannot be written there: {error.strerror}. Choose a folder you may write to."
        ) from error
    try:
        yield temp
        sync_tree(temp)
        _rename(temp, out)
        sync(out.parent)
    except BaseException as error:
        shutil.rmtree(temp, ignore_errors=True)
        reason = disk_full(error)
        if reason is not None:
            free = shutil.disk_usage(out.parent).free
            raise BundleError(
                f"{out}: could not be written: {reason} ({free / 2**20:,.1f} MiB are free there). Nothing half was "
                "left behind. Free some space or choose a path on another disk, then run this step again."
            ) from error
        raise


def disk_full(error: BaseException) -> str | None:
    """Why the disk took no more bytes, if that is what the error is about.

    Arrow and TensorFlow wrap the errno in their own classes, so their words are read too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return _FULL[seen.errno]
        if not isinstance(seen, BundleError):
            for words, code in _FULL_WORDS.items():
                if words in str(seen):
                    return _FULL[code]
        seen = seen.__cause__
    return None


def is_vacant(path: Path) -> bool:
    """Whether a folder may be renamed to `path`: nothing there, or an empty folder."""
    if not path.exists() and not path.is_symlink():
        return True
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def sync_tree(folder: Path) -> None:
    """fsync every file and every folder under `folder`, itself included."""
    for where, _, names in os.walk(folder):
        for name in names:
            sync(Path(where) / name)
        sync(Path(where))


def _rename(temp: Path, out: Path) -> None:
    try:
        os.rename(temp, out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise BundleError(
                f"{out}: exists already and is not empty; bundles are never overwritten. "
                "Give a new path, or remove the old folder yourself."
            ) from error
        raise
