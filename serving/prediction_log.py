"""The prediction log behind the endpoint: a bounded queue that answers never wait for, and one thread that writes files.

When the disk is full or gone, rows wait and are tried again; when there is no room to wait, new rows are dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import BaseModel, Field

from clickmill.contract import FeatureContract
from clickmill.prediction_log import Answered, Kept, LogFolder, Salt, is_kept, to_table
from serving.metrics import Metrics

log = logging.getLogger(__name__)

_EVERY_SECONDS = 0.25
"""How often the thread turns what has come into Arrow, which is a tenth of the size."""
_LONGEST_PAUSE_SECONDS = 30.0


class LogSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What is logged, and when a file is closed."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that is logged, decided by the request's id."""
    features: Kept = Kept.VALUES
    """What is logged of the features: their values, a digest, or nothing."""
    file_rows: int = Field(default=100_000, ge=1)
    """Rows at which a file is closed."""
    file_seconds: float = Field(default=60.0, gt=0)
    """Age of its first row at which a file is closed: what a killed process can lose."""
    pending_rows: int = Field(default=200_000, ge=1)
    """Most rows that wait in memory; beyond it, rows are dropped and counted."""


@dataclass
class _Buffer:
    """Rows of one bundle and day on their way into a file."""

    since: float
    tables: list[pa.Table] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(map(len, self.tables))


class PredictionLog:
    """Takes answers from any thread; writes them from its own."""

    def __init__(
        self,
        folder: LogFolder,
        model: str,
        *,
        settings: LogSettings,
        salt: Salt | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._settings, self._salt, self._clock = folder, settings, salt, clock
        self._written, self._dropped, self._lost = (
            metrics.log_rows.labels(model, outcome) for outcome in ("written", "dropped", "lost")
        )
        self._pending_gauge = metrics.log_pending.labels(model)
        self._write_errors = metrics.log_write_errors.labels(model)
        self._queue: deque[tuple[FeatureContract, Answered]] = deque()
        self._pending = 0
        self._lock = threading.Lock()
        self._buffers: dict[tuple[str, str], _Buffer] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def wants(self, request_id: str) -> bool:
        """Whether a request belongs to the share: asked before its rows are made."""
        return is_kept(request_id, self._settings.share)

    def offer(self, answer: Answered, contract: FeatureContract) -> None:
        """Log an answer if its request belongs to the share and there is room. Never waits, never raises."""
        if not self.wants(answer.request_id):
            return
        with self._lock:
            room = self._pending + answer.rows <= self._settings.pending_rows
            if room:
                self._pending += answer.rows
                self._queue.append((contract, answer))
        if not room:
            self._dropped.inc(answer.rows)

    def close(self, timeout: float) -> None:
        """Write what waits, then stop; what can't be written within `timeout` seconds is counted as dropped."""
        self._closing.set()
        self._thread.join(timeout)
        with self._lock:
            left, self._pending = self._pending, 0
        if left:
            self._dropped.inc(left)
            log.warning("prediction log: %d rows could not be written before the end", left)

    def _run(self) -> None:
        pause = _EVERY_SECONDS
        while not self._closing.wait(pause):
            self._gather()
            pause = _EVERY_SECONDS if self._write(due_only=True) else min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._gather()
        self._write(due_only=False)

    def _gather(self) -> None:
        """Turn what has come into tables, by bundle and day."""
        came: dict[tuple[str, str], list[tuple[FeatureContract, Answered]]] = {}
        while self._queue:
            contract, answer = self._queue.popleft()
            day = str(answer.time_us // 86_400_000_000)
            came.setdefault((answer.bundle, day), []).append((contract, answer))
        for key, pairs in came.items():
            answers = [answer for _, answer in pairs]
            try:
                table = to_table(answers, pairs[0][0], self._settings.features, self._salt)
            except Exception:  # a bug must cost these rows, not the log
                log.exception("prediction log: answers could not be turned into rows")
                self._forget(sum(answer.rows for answer in answers), self._lost)
                continue
            self._buffers.setdefault(key, _Buffer(self._clock())).tables.append(table)
        self._pending_gauge.set(self._pending)

    def _write(self, *, due_only: bool) -> bool:
        """Write the buffers (that are due); whether the disk took all of them."""
        for key, buffer in list(self._buffers.items()):
            full = buffer.rows >= self._settings.file_rows
            old = self._clock() - buffer.since >= self._settings.file_seconds
            if due_only and not (full or old):
                continue
            try:
                self._folder.write(pa.concat_tables(buffer.tables))
            except OSError as error:
                self._write_errors.inc()
                log.warning("prediction log: %s; %d rows wait for the next try", error, buffer.rows)
                return False
            del self._buffers[key]
            self._forget(buffer.rows, self._written)
        return True

    def _forget(self, rows: int, counter: object) -> None:
        counter.inc(rows)  # type: ignore[attr-defined]
        with self._lock:
            self._pending -= rows
        self._pending_gauge.set(self._pending)
