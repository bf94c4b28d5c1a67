"""Progress of a step across the border of its process: lines that a watcher reads back, or plain lines for a pod's log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from clickmill.progress import Progress

VARIABLE = "CLICKMILL_PROGRESS"
"""`lines` asks a step for lines that `replay` understands."""
PREFIX = "::clickmill-progress:: "

_LINES_PER_SECOND = 5.0
_PLAIN_SECONDS = 30.0


def of_step(name: str) -> Progress:
    """The progress of the step called `name`, in the form its watcher asked for."""
    if os.environ.get(VARIABLE) == "lines":
        return ProgressLines()
    return PlainProgress(name)


def _print(line: str) -> None:
    print(line, flush=True)


class ProgressLines:
    """Progress as lines that `pipelines.local` reads back; at most five a second, with the steps between added up."""

    def __init__(
        self, write: Callable[[str], None] = _print, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._pending, self._figures = 0, {}  # type: int, dict[str, float]
        self._last = float("-inf")

    def _emit(self, **event: Any) -> None:
        self._write(PREFIX + json.dumps(event))

    def start(self, task: str, total: int | None, unit: str) -> None:
        self._pending, self._figures, self._last = 0, {}, float("-inf")
        self._emit(start=task, total=total, unit=unit)

    def advance(self, n: int = 1, **figures: float) -> None:
        self._pending += n
        self._figures.update({key: float(value) for key, value in figures.items()})
        if self._clock() - self._last >= 1 / _LINES_PER_SECOND:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._emit(finish=True)

    def _flush(self) -> None:
        if self._pending or self._figures:
            self._emit(advance=self._pending, figures=self._figures)
        self._pending, self._figures, self._last = 0, {}, self._clock()


def replay(line: str, progress: Progress) -> bool:
    """Hand a line of ProgressLines on to `progress`; False when the line is something else."""
    if not line.startswith(PREFIX):
        return False
    event = json.loads(line[len(PREFIX) :])
    if "start" in event:
        progress.start(event["start"], event["total"], event["unit"])
    elif "advance" in event:
        progress.advance(event["advance"], **event["figures"])
    else:
        progress.finish()
    return True


class PlainProgress:
    """Progress for a pod's log: one line every half minute and one at the end."""

    def __init__(
        self, step: str, write: Callable[[str], None] = _print, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._step, self._write, self._clock = step, write, clock
        self._task, self._total, self._unit = "", None, ""  # type: str, int | None, str
        self._done, self._figures = 0, {}  # type: int, dict[str, float]
        self._began = self._last = clock()

    def start(self, task: str, total: int | None, unit: str) -> None:
        self._task, self._total, self._unit = task, total, unit
        self._done, self._figures = 0, {}
        self._began = self._last = self._clock()

    def advance(self, n: int = 1, **figures: float) -> None:
        self._done += n
        self._figures.update(figures)
        if self._clock() - self._last >= _PLAIN_SECONDS:
            self._say()

    def finish(self) -> None:
        self._say()

    def _say(self) -> None:
        self._last = self._clock()
        of = f" of {self._total:,}" if self._total else ""
        figures = "".join(f", {name} {value:.4g}" for name, value in self._figures.items())
        self._write(
            f"{self._step}: {self._task}: {self._done:,}{of} {self._unit} in {self._last - self._began:.0f} s{figures}"
        )
