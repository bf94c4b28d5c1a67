"""Where answers are logged: files, an event broker, or both. Logging never delays an answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clickmill.contract import FeatureContract
from clickmill.prediction_log import Answered, LogFolder, Salt
from serving.cloud_events import CloudEventsSink, EventSettings
from serving.metrics import Metrics
from serving.prediction_log import LogSettings, PredictionLog


class LogSink(Protocol):
    """Takes answers from any thread; never waits, never raises."""

    def wants(self, request_id: str) -> bool:
        """Whether a request belongs to the logged share: asked before its rows are made."""
        ...

    def offer(self, answer: Answered, contract: FeatureContract) -> None:
        """Log an answer if its request belongs to the share and there is room."""
        ...

    def close(self, timeout: float) -> None:
        """Write what waits; what can't be written within `timeout` seconds is counted as dropped."""
        ...


class LogSinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[LogSink]) -> None:
        self._sinks = tuple(sinks)

    def wants(self, request_id: str) -> bool:
        """Whether one of them does."""
        return any(sink.wants(request_id) for sink in self._sinks)

    def offer(self, answer: Answered, contract: FeatureContract) -> None:
        """To each that wants it."""
        for sink in self._sinks:
            sink.offer(answer, contract)

    def close(self, timeout: float) -> None:
        """One after the other, `timeout` seconds in all."""
        end = time.monotonic() + timeout
        for sink in self._sinks:
            sink.close(max(0.0, end - time.monotonic()))


def open_sinks(
    model: str,
    folder: Path | None,
    events: str | None,
    settings: LogSettings,
    salt: Salt | None,
    metrics: Metrics,
) -> LogSinks | None:
    """Sinks that run: files in `folder`, CloudEvents to the URL `events`; None when neither is wanted. Raises UsageError."""
    sinks: list[PredictionLog | CloudEventsSink] = []
    if events:
        told = EventSettings.at(events, share=settings.share, features=settings.features)
        sinks.append(CloudEventsSink(model, settings=told, salt=salt, metrics=metrics))
    if folder:
        writer = LogFolder(Path(folder), f"{socket.gethostname()}-{os.getpid()}")
        sinks.append(PredictionLog(writer, model, settings=settings, salt=salt, metrics=metrics))
    for sink in sinks:
        sink.start()
    return LogSinks(sinks) if sinks else None
