"""Answers as CloudEvents to a broker on loopback, read there by the CloudEvents SDK."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import orjson
import pytest
from cloudevents.http import CloudEvent, from_http
from prometheus_client import CollectorRegistry

from clickmill.errors import UsageError
from clickmill.features.tensors import from_rows
from clickmill.prediction_log import Answered, Kept, Salt
from serving.cloud_events import REQUEST, RESPONSE, CloudEventsSink, EventSettings
from serving.log_sinks import LogSinks, open_sinks
from serving.metrics import Metrics
from serving.prediction_log import LogSettings
from serving.predictor import BundleModel
from tests.serving.small_bundle import CONTRACT, GOOD_ROW
from tests.waiting import until


class Broker:
    """Takes events; answers with `status`, and only when let go."""

    def __init__(self) -> None:
        self.events: list[CloudEvent] = []
        self.status: Callable[[int], int] = lambda number: 202
        self.asked = 0
        self.let_go = threading.Event()
        self.let_go.set()
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.let_go.wait(30)
                with lock:
                    outer.asked += 1
                    status = outer.status(outer.asked)
                    if status == 202:
                        outer.events.append(from_http(dict(self.headers), body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


class Sent:
    """A sink and its counters."""

    def __init__(self, url: str, salt: Salt | None = None, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        quick = {"first_pause_seconds": 0.01, "longest_pause_seconds": 0.02} | settings
        told = EventSettings.at(url, {"POD_NAMESPACE": "ads"}, **quick)
        self.sink = CloudEventsSink("small", settings=told, salt=salt, metrics=self.metrics)
        self.sink.start()

    def count(self, outcome: str) -> float:
        labels = {"model_name": "small", "outcome": outcome}
        return self.registry.get_sample_value("clickmill_log_events_total", labels) or 0.0

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"model_name": "small"}) or 0.0


def answer(request: str = "r", rows: int = 1) -> Answered:
    return Answered(
        request_id=request,
        time_us=1_764_000_000_123_456,
        model="small",
        bundle="b" * 64,
        raw=from_rows([GOOD_ROW] * rows, CONTRACT),
        pctr=np.full(rows, 0.25, np.float32),
        logit=np.full(rows, -1.5, np.float32),
    )


def test_an_answer_is_two_events_of_one_id_with_the_attributes_of_kserves_logger(broker):
    sent = Sent(broker.url)
    sent.sink.offer(answer(), CONTRACT)
    sent.sink.close(10)
    request, response = broker.events
    common = {
        "specversion": "1.0",
        "id": "r",
        "source": "/clickmill/small",
        "time": "2025-11-24T16:00:00.123456+00:00",
        "inferenceservicename": "small",
        "namespace": "ads",
        "component": "predictor",
        "endpoint": "default",
        "metadata": '{"bundle":["' + "b" * 64 + '"]}',
    }
    for event, kind in (
        (request, "org.kubeflow.serving.inference.request"),
        (response, "org.kubeflow.serving.inference.response"),
    ):
        found = event.get_attributes()
        assert {name: found[name] for name in common} == common
        assert found["type"] == kind
    assert response.data == {"predictions": [{"pctr": 0.25, "logit": -1.5}]}
    (sent_row,) = request.data["instances"]
    assert {key: sent_row[key] for key in ("user_id", "ad_id", "history", "price")} == {
        key: GOOD_ROW[key] for key in ("user_id", "ad_id", "history", "price")
    }
    assert sent.count("sent") == 2
    assert sent.value("clickmill_log_events_pending") == 0


def test_a_fallbacks_event_says_so(broker):
    sent = Sent(broker.url)
    sent.sink.offer(replace(answer(), fallback="overload"), CONTRACT)
    sent.sink.close(10)
    told = [event.get_attributes()["metadata"] for event in broker.events]
    assert told == ['{"bundle":["' + "b" * 64 + '"],"fallback":["overload"]}'] * 2


def test_what_was_sent_asks_for_what_was_answered(broker, small_scorer: Any):
    """The request event of any protocol is a V1 body: asked again, it gives the response event."""
    model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "1")
    sent = Sent(broker.url)
    model.log = LogSinks([sent.sink])
    tensors = [
        {"name": "ad_id", "datatype": "BYTES", "shape": [3], "data": ["a1", "a2", "ü3"]},
        {"name": "shown_at", "datatype": "INT64", "shape": [3], "data": [1_700_000_000] * 3},
    ]
    model.answer(model.ask_v2(orjson.dumps({"id": "v2", "inputs": tensors}), None))
    model.answer(model.ask_v1(orjson.dumps({"instances": [GOOD_ROW, {"ad_id": "a2"}]}), "v1"))
    model.log.close(10)
    model.log = None
    told = {(event["id"], event["type"]): event.data for event in broker.events}
    assert {key for key, _ in told} == {"v1", "v2"}
    for key in ("v1", "v2"):
        again = model.answer(model.ask_v1(orjson.dumps(told[key, REQUEST]))).body
        assert orjson.loads(again) == told[key, RESPONSE]


def test_personal_fields_are_hashed_with_the_salt(broker):
    fields = dict(CONTRACT.fields)
    fields["user_id"] = fields["user_id"].model_copy(update={"personal": True})
    contract = CONTRACT.model_copy(update={"fields": fields})
    sent = Sent(broker.url, salt=Salt(b"0123456789abcdef"))
    sent.sink.offer(answer(), contract)
    sent.sink.close(10)
    user = broker.events[0].data["instances"][0]["user_id"]
    assert user != "u1"
    assert len(user) == 32
    assert broker.events[0].data["instances"][0]["ad_id"] == "a1"


def test_no_features_no_request_event_and_a_digest_where_it_is_asked_for(broker):
    for kept, kinds in ((Kept.NOTHING, [RESPONSE]), (Kept.DIGEST, [REQUEST, RESPONSE])):
        broker.events.clear()
        sent = Sent(broker.url, features=kept)
        sent.sink.offer(answer(), CONTRACT)
        sent.sink.close(10)
        assert [event["type"] for event in broker.events] == kinds
    assert list(broker.events[0].data["instances"][0]) == ["features_md5"]


def test_an_id_that_no_header_may_hold_arrives_whole(broker):
    sent = Sent(broker.url)
    name = 'ü 1%\r\n"x'
    sent.sink.offer(answer(name), CONTRACT)
    sent.sink.close(10)
    assert [unquote(event["id"]) for event in broker.events] == [name] * 2


def test_a_broker_that_fails_is_asked_again_and_gets_each_event_once(broker):
    broker.status = lambda number: (503, 429, 500, 202)[min(number, 4) - 1]
    sent = Sent(broker.url, senders=1)
    sent.sink.offer(answer(), CONTRACT)
    sent.sink.close(10)
    assert [event["type"] for event in broker.events] == [REQUEST, RESPONSE]
    assert (sent.count("sent"), sent.value("clickmill_log_event_retries_total")) == (2, 3)


def test_what_a_broker_refuses_for_good_is_counted_and_the_next_goes_on(broker):
    broker.status = lambda number: 400 if number == 1 else 202
    sent = Sent(broker.url, senders=1)
    sent.sink.offer(answer("first"), CONTRACT)
    sent.sink.offer(answer("second"), CONTRACT)
    sent.sink.close(10)
    assert [(event["id"], event["type"]) for event in broker.events] == [
        ("first", RESPONSE),
        ("second", REQUEST),
        ("second", RESPONSE),
    ]
    assert (sent.count("refused"), sent.count("sent")) == (1, 3)


def test_a_broker_that_hangs_holds_up_no_offer_and_drops_are_counted(broker):
    broker.let_go.clear()
    sent = Sent(broker.url, pending_rows=100)
    began = time.monotonic()
    for number in range(500):
        sent.sink.offer(answer(str(number), rows=2), CONTRACT)
    assert time.monotonic() - began < 10, "the broker hangs for up to 30 s"
    assert sent.count("dropped") == 2 * 450, "100 rows are 50 answers; two events each"
    broker.let_go.set()
    sent.sink.close(20)
    assert sent.count("sent") == 100
    assert len({event["id"] for event in broker.events}) == 50


def test_a_broker_that_is_away_at_the_end_holds_up_the_end_no_longer_than_told(broker):
    broker.status = lambda number: 503
    sent = Sent(broker.url, senders=2)
    for number in range(10):
        sent.sink.offer(answer(str(number)), CONTRACT)
    until(lambda: broker.asked > 2)
    began = time.monotonic()
    sent.sink.close(0.5)
    assert time.monotonic() - began < 10
    assert sent.count("dropped") + sent.count("sent") >= 16, "all but the two in hand"
    assert broker.events == []


def test_an_answer_that_a_bug_spoils_costs_itself_only(broker):
    sent = Sent(broker.url, senders=1)
    spoiled = answer("spoiled")
    sent.sink.offer(spoiled, SimpleNamespace(of_role=None))  # type: ignore[arg-type]
    sent.sink.offer(answer("next"), CONTRACT)
    sent.sink.close(10)
    assert {event["id"] for event in broker.events} == {"next"}
    assert (sent.count("lost"), sent.count("sent")) == (2, 2)


def test_rows_are_not_made_of_a_request_that_nobody_logs(small_scorer: Any):
    offered: list[Answered] = []

    class Picky:
        def wants(self, request_id: str) -> bool:
            return request_id == "mine"

        def offer(self, answer: Answered, contract: Any) -> None:
            offered.append(answer)

        def close(self, timeout: float) -> None:
            pass

    model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "1")
    model.log = LogSinks([Picky()])
    for name in ("mine", "yours"):
        model.answer(model.ask_v1(orjson.dumps({"instances": [GOOD_ROW]}), name))
    assert [answer.request_id for answer in offered] == ["mine"]


def test_what_is_no_url_is_refused_with_a_remedy():
    with pytest.raises(UsageError, match="--log-events broker:8080: give the URL of a broker"):
        EventSettings.at("broker:8080")


def test_both_sinks_are_opened_by_what_the_command_was_told(broker, tmp_path: Path):
    metrics = Metrics(CollectorRegistry())
    assert open_sinks("small", None, None, LogSettings(), None, metrics) is None
    sinks = open_sinks("small", tmp_path, broker.url, LogSettings(), None, metrics)
    assert sinks is not None
    sinks.offer(answer(), CONTRACT)
    sinks.close(10)
    assert len(broker.events) == 2
    assert len(list(tmp_path.glob("day=*/*.parquet"))) == 1
