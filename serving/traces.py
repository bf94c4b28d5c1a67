"""OpenTelemetry traces of requests: one span a request, one below it for each stage, made when the request is over.

Spans are built from the timeline that is kept anyway, after the answer has gone; a thread of the SDK sends them, in batches from a bounded
queue, and drops what a slow collector has no room for. OpenTelemetry's SDK is imported where a `Traces` is made, and nowhere else.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clickmill import __version__
from clickmill.errors import UsageError
from serving.refusals import refusal_of
from serving.stages import Timeline

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

CONSOLE = "console"
_PATH = "/v1/traces"


class Traces:
    """Sends spans of finished requests. One per process."""

    def __init__(
        self, target: str, model_name: str, *, share: float = 1.0, exporter: SpanExporter | None = None
    ) -> None:
        """target: `console` (stderr) or the URL of an OTLP/HTTP collector, `/v1/traces` where it has no path.

        share: of the requests that come without a trace; those whose caller traces follow the caller's choice (`traceparent`).
        exporter: takes the place of what `target` says; a seam for tests. Raises UsageError for another target.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._model_name = model_name
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": "clickmill", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _exporter(target)))
        self._tracer = self._provider.get_tracer("clickmill.serving", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, timeline: Timeline) -> None:
        """Hand over the spans of a finished request. Never waits."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        # spans want nanoseconds since 1970, laps have a clock of their own: both are read here
        shift = time.time_ns() - time.perf_counter_ns()

        def wall(seconds: float) -> int:
            return int(seconds * 1e9) + shift

        parent = self._propagator.extract(timeline.parent, context=Context())
        root = self._tracer.start_span(
            f"predict {timeline.protocol}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(timeline, self._model_name),
            start_time=wall(timeline.start),
        )
        if root.is_recording():
            below = set_span_in_context(root, Context())
            for stage, start, end in timeline.laps:
                span = self._tracer.start_span(stage.value, context=below, start_time=wall(start))
                span.end(wall(end))
            if timeline.error is not None and refusal_of(timeline.error).http >= 500:
                root.set_status(Status(StatusCode.ERROR, type(timeline.error).__name__))
        root.end(wall(timeline.end))

    def close(self, timeout: float) -> None:
        """Send what waits; what can't be sent within `timeout` seconds is lost."""
        # the SDK's own shutdown waits for a collector that hangs
        closing = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        closing.start()
        closing.join(timeout)
        if closing.is_alive():
            log.warning("traces: the collector did not take the last spans within %g s", timeout)


def _attributes(timeline: Timeline, model_name: str) -> dict[str, Any]:
    known = {
        "clickmill.model": model_name,
        "clickmill.protocol": timeline.protocol,
        "clickmill.request_id": timeline.request_id,
        "clickmill.bundle": timeline.bundle,
        "clickmill.rows": timeline.rows,
        "error.type": refusal_of(timeline.error).reason if timeline.error is not None else None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _exporter(target: str) -> SpanExporter:
    if target == CONSOLE:
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"--traces {target}: give `{CONSOLE}`, or the URL of an OTLP/HTTP collector, say http://localhost:4318"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=target if parts.path.strip("/") else target.rstrip("/") + _PATH)
