"""Traces of real requests: what OpenTelemetry's own exporters and a receiver on loopback get to see."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from clickmill.errors import UsageError
from serving import app
from serving.batcher import BatchSettings
from serving.client import tensor_body
from serving.front import Front
from serving.kserve_parts import kserve
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.scheduler import Scheduler
from serving.traces import Traces
from tests.serving.small_bundle import GOOD_ROW, raw_rows

V1 = "/v1/models/small:predict"
BODY = orjson.dumps({"instances": [GOOD_ROW]})
JSON = {"content-type": "application/json"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""The example of the W3C recommendation, 3.2.2.5."""


class Traced:
    """An endpoint without a socket, and what its traces' exporter got."""

    def __init__(self, scorer: Any, share: float = 1.0, batch_rows: int = 0, **options: Any) -> None:
        self.registry = CollectorRegistry()
        model = BundleModel("small", metrics=Metrics(self.registry))
        model.swap(scorer, "1")
        self.memory = InMemorySpanExporter()
        exporter = {} if options else {"exporter": self.memory}
        self.traces = Traces(options.get("target", "console"), "small", share=share, **exporter)
        models = kserve.ModelRepository()
        models.update(model)
        scheduler = Scheduler(
            model, Lanes(2), batch=BatchSettings(rows=batch_rows), record=self.traces.record
        )
        self.front = Front(app.build(app.BundleDataPlane(models)), model, scheduler)

    def post(self, *contents: bytes, headers: dict[str, str] = JSON, path: str = V1) -> list[int]:
        async def all_at_once() -> list[int]:
            transport = httpx.ASGITransport(self.front)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                answers = [client.post(path, content=content, headers=headers) for content in contents]
                return [answer.status_code for answer in await asyncio.gather(*answers)]

        return asyncio.run(all_at_once())

    def spans(self) -> dict[str, list[Any]]:
        """By name; the traces are closed."""
        self.traces.close(10)
        found: dict[str, list[Any]] = {}
        for span in self.memory.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    def stage_count(self, stage: str) -> float | None:
        labels = {"model_name": "small", "stage": stage}
        return self.registry.get_sample_value("clickmill_request_stage_seconds_count", labels)


def test_a_request_is_a_span_with_its_stages_below_it_in_their_order(small_scorer):
    traced = Traced(small_scorer)
    before = time.time_ns()
    assert traced.post(BODY, headers=JSON | {"x-request-id": "r-17"}) == [200]
    after = time.time_ns()
    spans = traced.spans()
    (root,) = spans.pop("predict v1")
    assert list(spans) == ["wait", "parse", "score", "reply"]
    assert root.parent is None
    assert root.kind is SpanKind.SERVER
    assert dict(root.attributes) == {
        "clickmill.model": "small",
        "clickmill.protocol": "v1",
        "clickmill.request_id": "r-17",
        "clickmill.bundle": small_scorer.digest,
        "clickmill.rows": 1,
    }
    moments = [root.start_time]
    for (span,) in spans.values():
        assert span.parent.span_id == root.context.span_id
        assert span.context.trace_id == root.context.trace_id
        moments += [span.start_time, span.end_time]
    moments.append(root.end_time)
    assert moments == sorted(moments), "a stage begins when the former has ended, all within the request"
    slack = 1_000_000  # two clocks are read one after the other
    assert before - slack <= root.start_time
    assert root.end_time <= after + slack


def test_the_stages_are_noted_on_threads_and_in_company_too(small_scorer):
    body, headers = tensor_body(raw_rows(300), binary=True)
    for batch_rows in (0, 1000):
        traced = Traced(small_scorer, batch_rows=batch_rows)
        assert traced.post(*[body] * 6, headers=headers, path="/v2/models/small/infer") == [200] * 6
        spans = traced.spans()
        roots = {span.context.span_id for span in spans.pop("predict v2")}
        assert len(roots) == 6
        assert set(spans) == {"wait", "parse", "score", "reply"}
        for stage, found in spans.items():
            assert {span.parent.span_id for span in found} == roots, f"{stage} of each request"
            assert len(found) == traced.stage_count(stage) == 6


def test_the_callers_trace_goes_on_and_its_choice_is_kept(small_scorer):
    for share, flags, roots in ((1.0, "01", 1), (0.0, "01", 1), (1.0, "00", 0)):
        traced = Traced(small_scorer, share=share)
        traced.post(BODY, headers=JSON | {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
        found = traced.spans().get("predict v1", [])
        assert len(found) == roots, (share, flags)
        for root in found:
            assert f"{root.context.trace_id:032x}" == TRACE
            assert f"{root.parent.span_id:016x}" == PARENT


def test_a_share_of_the_requests_is_traced_and_all_are_timed(small_scorer):
    traced = Traced(small_scorer, share=0.3)
    traced.post(*[BODY] * 200)
    found = traced.spans()
    # Binomial(200, 0.3): five standard deviations of 6.5 around 60
    assert 28 <= len(found["predict v1"]) <= 92
    assert len(found["score"]) == len(found["predict v1"])
    assert traced.stage_count("score") == 200


def test_a_refused_request_says_why_and_only_our_own_faults_are_errors(small_scorer):
    class Broken:
        ranks = False
        contract, digest = small_scorer.contract, small_scorer.digest

        def predict(self, raw: Any) -> Any:
            raise RuntimeError("the graph fell over")

    traced, broken = Traced(small_scorer), Traced(Broken())
    assert traced.post(b"{") == [400]
    assert broken.post(BODY) == [500]
    refused, fault = traced.spans(), broken.spans()
    assert refused["predict v1"][0].attributes["error.type"] == "malformed"
    assert refused["predict v1"][0].status.status_code is StatusCode.UNSET
    assert "score" not in refused
    assert fault["predict v1"][0].attributes["error.type"] == "internal"
    assert fault["predict v1"][0].status.status_code is StatusCode.ERROR


@contextmanager
def collector(seconds: float = 0.0) -> Iterator[tuple[str, list[ExportTraceServiceRequest], threading.Event]]:
    """An OTLP/HTTP receiver on loopback; it answers after `seconds`, or when it is let go."""
    received: list[ExportTraceServiceRequest] = []
    let_go = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
                received.append(ExportTraceServiceRequest.FromString(body))
            let_go.wait(seconds)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received, let_go
    finally:
        let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_collector_gets_the_spans_as_otlp(small_scorer):
    with collector() as (url, received, _):
        traced = Traced(small_scorer, target=url)
        traced.post(BODY, headers=JSON | {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        traced.traces.close(10)
    resource = received[0].resource_spans[0]
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "clickmill"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    root = next(span for span in spans if span.name == "predict v1")
    assert root.parent_span_id.hex() == PARENT
    assert {span.name: span.parent_span_id for span in spans if span is not root} == dict.fromkeys(
        ("wait", "parse", "score", "reply"), root.span_id
    )


def test_a_collector_that_hangs_holds_up_no_answer_and_not_the_end(small_scorer):
    with collector(seconds=30.0) as (url, _, let_go):
        traced = Traced(small_scorer, target=url)
        assert traced.post(*[BODY] * 3000) == [200] * 3000, "more spans than the queue of the SDK holds"
        start = time.monotonic()
        traced.traces.close(0.3)
        assert time.monotonic() - start < 15, "the end waited for the collector"
        let_go.set()


def test_a_target_that_is_none_is_named_with_a_remedy():
    for target in ("localhost:4318", "stdout", "ftp://x/"):
        with pytest.raises(UsageError, match=f"--traces {target}: give `console`, or the URL"):
            Traces(target, "small")


def test_an_endpoint_without_traces_imports_no_part_of_the_sdk():
    code = (
        "import sys, serving.server, serving.traces\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
