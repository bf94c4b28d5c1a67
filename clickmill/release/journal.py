"""The audit log of an endpoint's releases: who did what, when, why, on what evidence. Append-only; its last line is the state.

One JSON object a line, flushed to the disk before the decision is carried out, so that a restart finds what was decided and
carries it out again. A line that a crash cut short was not decided: it is moved aside when the journal is opened.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from clickmill.errors import DataError, UsageError
from clickmill.release.gate_decision import Check
from clickmill.release.machine import Decision
from clickmill.release.release import Release


class Entry(BaseModel):
    """One line."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    at: AwareDatetime
    """When it was decided."""
    by: str
    """Who decided: a person, or the machine."""
    reason: str
    """Why."""
    state: Release
    """The state from then on."""
    checks: tuple[Check, ...] = ()
    """What was held against the policy."""


class Journal:
    """The file of one endpoint. `hold` while reading and appending: two processes cannot both decide."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep others from deciding; blocks until they are done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def begin(self, release: Release, *, by: str, reason: str) -> None:
        """The first line. Raises UsageError when there is one."""
        if self.path.exists() and self.path.stat().st_size:
            raise UsageError(f"{self.path} has a release already: {self.state.endpoint}, {self.state.phase}")
        self._append(Entry(at=release.since, by=by, reason=reason, state=release))

    def append(self, decision: Decision, at: AwareDatetime) -> bool:
        """Write a decision that changes the state; one that only waits leaves no line. True when a line was written."""
        if decision.next == self.state:
            return False
        self._append(
            Entry(at=at, by=decision.by, reason=decision.reason, state=decision.next, checks=decision.checks)
        )
        return True

    @property
    def entries(self) -> list[Entry]:
        """All lines, oldest first. Raises UsageError where there is no journal, DataError naming file and line for one that was altered."""
        if not self.path.exists():
            raise UsageError(f"no release journal at {self.path}")
        found = []
        for number, line in enumerate(self._lines(), 1):
            try:
                found.append(Entry.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise DataError(
                    f"{self.path}:{number}: not an entry of a release journal: {where} {first['msg']}"
                ) from error
        return found

    @property
    def state(self) -> Release:
        """Where the release stands. Raises UsageError for an empty journal."""
        entries = self.entries
        if not entries:
            raise UsageError(f"{self.path} has no entry yet")
        return entries[-1].state

    def _lines(self) -> list[bytes]:
        # What follows the last line end is empty, or was cut short by a crash and never decided.
        *whole, _cut_short = self.path.read_bytes().split(b"\n")
        return whole

    def _append(self, entry: Entry) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            self._drop_what_was_cut_short(file.fileno())
            file.write(entry.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _drop_what_was_cut_short(self, descriptor: int) -> None:
        if not self.path.stat().st_size:
            return
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            os.ftruncate(descriptor, content.rfind(b"\n") + 1)


__all__ = ["Entry", "Journal"]
