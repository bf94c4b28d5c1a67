"""What a running step owes whoever watches it: progress, a line of what it found, and the reason when it fails.

A step runs in a process of its own: a pod, or a child of `pipelines.local`. Three ways lead out of it.

    progress    lines on stdout (components.progress)
    record      one JSON line per finished step in the file that CLICKMILL_RECORD names: the local run's own account
    reason      in a pod also /dev/termination-log, which Kubernetes shows as the message of the terminated container
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clickmill.errors import ClickmillError
from clickmill.progress import Progress
from components import progress

RECORD_VARIABLE = "CLICKMILL_RECORD"

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # what the kubelet keeps of it


class StepRecord(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How one step ended."""

    step: str
    """Name of the step, with the model's name where a step runs once per model."""
    outcome: str
    """`done`, `failed` or `interrupted`."""
    seconds: float
    """Wall time inside the step, without the start of its process."""
    notes: tuple[str, ...] = ()
    """What it found, a sentence each."""
    kind: str = ""
    """Class of the error, when it failed."""
    reason: str = ""
    """The error's own words."""
    expected: bool = True
    """Whether the error is one of `clickmill.errors`: if not, it is a bug."""


def read_records(path: Path) -> list[StepRecord]:
    """The account of a run, in the order in which the steps ended; empty when there is none yet."""
    if not path.exists():
        return []
    return [StepRecord.model_validate_json(line) for line in path.read_text().splitlines() if line]


class Step:
    """A running step: hand `progress` to the library, `note` what people should read in the report."""

    def __init__(self, name: str, bar: Progress) -> None:
        self.name = name
        self.progress = bar
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        """Keep a sentence for the run's report and print it in the log."""
        self.notes.append(sentence)
        print(f"{self.name}: {sentence}", flush=True)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Run the body of a component; record how it ended, whatever happens.

    SIGTERM (a pod evicted, a run cancelled) becomes SIGINT, on which training saves its checkpoint and raises KeyboardInterrupt.
    """
    running = Step(name, progress.of_step(name))
    began = time.monotonic()
    try:
        with _interruptible():
            yield running
    except BaseException as error:
        _tell(_record(running, began, error))
        raise
    _tell(_record(running, began, None))


def _record(running: Step, began: float, error: BaseException | None) -> StepRecord:
    common: dict[str, Any] = {
        "step": running.name,
        "seconds": round(time.monotonic() - began, 3),
        "notes": tuple(running.notes),
    }
    if error is None:
        return StepRecord(outcome="done", **common)
    if isinstance(error, KeyboardInterrupt):
        return StepRecord(outcome="interrupted", kind="KeyboardInterrupt", reason=str(error), **common)
    reason = str(error) or traceback.format_exception_only(error)[-1].strip()
    return StepRecord(
        outcome="failed",
        kind=type(error).__name__,
        reason=reason,
        expected=isinstance(error, ClickmillError),
        **common,
    )


def _tell(record: StepRecord) -> None:
    path = os.environ.get(RECORD_VARIABLE)
    if path:
        with Path(path).open("a") as file:
            file.write(record.model_dump_json() + "\n")
    if record.outcome == "failed" and "KUBERNETES_SERVICE_HOST" in os.environ and TERMINATION_LOG.exists():
        text = f"{record.step}: {record.kind}: {record.reason}".encode()
        TERMINATION_LOG.write_bytes(text[:TERMINATION_BYTES])


@contextmanager
def _interruptible() -> Iterator[None]:
    # A child of a shell's background job inherits SIGINT ignored; Python then installs no handler and Ctrl-C would be lost.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # By way of SIGINT, because training puts a handler of its own there that waits for the end of a batch.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
