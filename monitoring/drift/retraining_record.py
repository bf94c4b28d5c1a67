"""The record of trainings that drift started or was refused: one JSON object a line, on the disk before anything is started."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from clickmill.disk import sync
from clickmill.errors import DataError
from monitoring.drift.retraining import Event, Retraining


class RetrainingRecord:
    """A file that outlives restarts. `hold` it while deciding: two monitors of one folder cannot both spend the budget."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep others from deciding; blocks until they are done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def lines(self) -> list[Retraining]:
        """Oldest first; empty where there is none yet. What a crash cut short at the end was not written.

        Raises DataError naming file and line for one that was altered: a budget that can't be read is spent.
        """
        if not self.path.exists():
            return []
        *whole, _cut_short = self.path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(whole, 1):
            try:
                found.append(Retraining.model_validate_json(line))
            except ValidationError as error:
                raise DataError(
                    f"{self.path}:{number}: no line of the record of trainings: {error.errors()[0]['msg']}. "
                    "Nothing is started until it can be read; mend the line, or move the file away, which forgets what was spent."
                ) from error
        return found

    def append(self, line: Retraining) -> None:
        """Write a line, on the disk when this returns. Raises OSError."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.ftruncate(file.fileno(), content.rfind(b"\n") + 1)
            file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync(self.path.parent)

    def refuse(self, line: Retraining) -> None:
        """Append a refusal, unless it is what the last line says."""
        last = self.lines()[-1:]
        if (
            last
            and last[0].event is Event.REFUSED
            and (last[0].cause, last[0].bundle) == (line.cause, line.bundle)
        ):
            return
        self.append(line)


__all__ = ["RetrainingRecord"]
