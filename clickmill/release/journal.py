"""The audit log of an endpoint's releases: who did what, when, why, on what evidence. Append-only; its last line is the state.

One JSON object a line, flushed to the disk before the decision is carried out, so that a restart finds what was decided and
carries it out again. A line that a crash cut short was not decided: it is moved aside when the journal is opened.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from clickmill.disk import LineFile
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


class Journal(LineFile):
    """The file of one endpoint."""

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
        for number, line in enumerate(self.whole_lines(), 1):
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

    def _append(self, entry: Entry) -> None:
        self.append_line(entry.model_dump_json().encode())


__all__ = ["Entry", "Journal"]
