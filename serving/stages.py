"""Where the time of a request goes, stage by stage: into a histogram always, into a trace where one is asked for.

A request has a timeline from its first stage to its answer. It travels in a context variable, so that whoever works on the request, on
the loop or on a thread, notes its lap without being handed anything; where nothing is timed (a test, KServe's own route) a lap is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serving.metrics import Metrics


class Stage(StrEnum):
    """A part of the way; the label of the metric and the name of the span."""

    PARSE = "parse"  # bytes to checked arrays
    LOOKUP = "lookup"  # features from the store
    WAIT = "wait"  # inside, until a thread takes it
    SCORE = "score"  # the graph
    REPLY = "reply"  # the answer's bytes


@dataclass(eq=False, slots=True)
class Timeline:
    """What is known of one request. Laps are (stage, start, end) in seconds of `time.perf_counter`."""

    protocol: str
    parent: Mapping[str, str]
    """W3C trace context of the caller: `traceparent`, `tracestate`; empty where traces are off."""
    start: float
    laps: list[tuple[Stage, float, float]] = field(default_factory=list)
    end: float = 0.0
    request_id: str | None = None
    bundle: str | None = None
    rows: int | None = None
    error: Exception | None = None


Record = Callable[[Timeline], None]

_TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})

_current: ContextVar[Timeline | None] = ContextVar("timeline", default=None)


def lap(stage: Stage, start: float, end: float) -> None:
    """Note a stage of the request at hand, in seconds of `time.perf_counter`."""
    timeline = _current.get()
    if timeline is not None:
        timeline.laps.append((stage, start, end))


class timed:  # noqa: N801 - reads as a word of the language: `with timed(Stage.SCORE)`
    """Notes its body as a stage of the request at hand, also when it raises."""

    __slots__ = ("_stage", "_start")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *raised: object) -> None:
        lap(self._stage, self._start, time.perf_counter())


def about(*, request_id: str | None = None, bundle: str | None = None, rows: int | None = None) -> None:
    """Note what became known of the request at hand; None leaves what was known."""
    timeline = _current.get()
    if timeline is not None:
        timeline.request_id = request_id or timeline.request_id
        timeline.bundle = bundle or timeline.bundle
        timeline.rows = timeline.rows if rows is None else rows


def failed(error: Exception) -> None:
    """Note why the request at hand gets no prediction."""
    timeline = _current.get()
    if timeline is not None:
        timeline.error = error


class Stages:
    """Times the requests of one model. `record` gets each finished timeline: traces, where they are on."""

    def __init__(self, metrics: Metrics, model_name: str, record: Record | None = None) -> None:
        self._seconds = {stage: metrics.stage_seconds.labels(model_name, stage) for stage in Stage}
        self._record = record

    @contextmanager
    def request(
        self, protocol: str, context: Callable[[], Mapping[str, str]], request_id: str | None = None
    ) -> Iterator[None]:
        """The time of one request; `context` gives the caller's W3C trace context, and is asked only where traces are on."""
        timeline = Timeline(
            protocol, context() if self._record else {}, time.perf_counter(), request_id=request_id
        )
        token = _current.set(timeline)
        try:
            yield
        finally:
            _current.reset(token)
            timeline.end = time.perf_counter()
            for stage, start, end in timeline.laps:
                self._seconds[stage].observe(end - start)
            if self._record is not None:
                self._record(timeline)


def trace_context(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The W3C trace context among the headers of an HTTP request."""
    return {
        key.decode("latin-1"): value.decode("latin-1")
        for key, value in headers
        if key.decode("latin-1") in _TRACE_CONTEXT
    }


def called_context(context: Any) -> dict[str, str]:
    """The W3C trace context among the metadata of a gRPC call."""
    return {key: value for key, value in context.invocation_metadata() or () if key in _TRACE_CONTEXT}
