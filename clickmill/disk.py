"""Writing to disk so that what went wrong is told, and what is told is there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def sync(path: Path) -> None:
    """fsync a file, or a folder and with it the names in it: what is there now outlives a power cut. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy. Of a full disk `numpy.save` says how many bytes it wrote; this raises the OSError that says why."""
    form = np.lib.format
    with path.open("wb") as file:
        whole = np.ascontiguousarray(array).reshape(array.shape)
        form.write_array_header_1_0(file, form.header_data_from_array_1_0(whole))
        file.write(whole.reshape(-1).view(np.uint8).data)


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, its folder made if need be; on the disk when this returns. One writer at a time. Raises
    OSError and leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


class LineFile:
    """An append-only file of lines that outlives a crash. `hold` it while reading and appending: two processes cannot both decide."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep others from deciding; blocks until they are done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def whole_lines(self) -> list[bytes]:
        """Oldest first. What follows the last line end is empty, or was cut short by a crash and never written. Raises OSError."""
        *whole, _cut_short = self.path.read_bytes().split(b"\n")
        return whole

    def append_line(self, line: bytes) -> None:
        """Write a line after the last whole one, on the disk when this returns. Raises OSError."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.ftruncate(file.fileno(), content.rfind(b"\n") + 1)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync(self.path.parent)
