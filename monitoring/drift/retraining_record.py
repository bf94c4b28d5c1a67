"""The record of trainings that drift started or was refused: one JSON object a line, on the disk before anything is started."""

from __future__ import annotations

from pydantic import ValidationError

from clickmill.disk import LineFile
from clickmill.errors import DataError
from monitoring.drift.retraining import Event, Retraining


class RetrainingRecord(LineFile):
    """A file that outlives restarts: two monitors of one folder cannot both spend the budget while one holds it."""

    def lines(self) -> list[Retraining]:
        """Oldest first; empty where there is none yet. What a crash cut short at the end was not written.

        Raises DataError naming file and line for one that was altered: a budget that can't be read is spent.
        """
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.whole_lines(), 1):
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
        self.append_line(line.model_dump_json().encode())

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
