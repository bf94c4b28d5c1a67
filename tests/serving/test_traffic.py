"""The client and the traffic generator against a small HTTP server whose timing and answers we set."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from clickmill.errors import RequestError, RequestTooLarge, UsageError
from serving.client import Client, RetryPolicy, Unreachable, tensor_body
from serving.ports import claim, listen
from serving.refusals import NotReady
from serving.rows import json_rows
from serving.traffic import replay

Reply = Callable[[int, dict[str, Any]], tuple[int, Any]]


class Fake:
    """Answers the i-th request with `reply(i, body)`; keeps what it saw."""

    def __init__(self, reply: Reply) -> None:
        self.bodies: list[dict[str, Any]] = []
        lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    index = len(fake.bodies)
                    fake.bodies.append(body)
                status, answer = reply(index, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.send_header("x-clickmill-version", "5")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def fakes() -> Iterator[Callable[[Reply], Fake]]:
    made: list[Fake] = []

    def make(reply: Reply) -> Fake:
        made.append(Fake(reply))
        return made[-1]

    yield make
    for fake in made:
        fake.close()


def scores(body: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": [{"pctr": row["x"] / 100, "logit": 0.0} for row in body["instances"]]}


def test_rows_come_back_in_order_whatever_the_concurrency(fakes):
    fake = fakes(lambda _, body: (200, scores(body)))
    table = pa.table({"x": list(range(25)), "label": [0] * 25})
    found = replay(
        table,
        fake.url,
        model_name="m",
        columns=("x",),
        rate_per_second=2000,
        concurrency=4,
        rows_per_request=2,
    )
    assert found.pctr.tolist() == pytest.approx([x / 100 for x in range(25)])
    assert (found.count, found.errors, len(found.latency_ms)) == (13, 0, 13)
    assert set(found.versions) == {"5"}
    assert all(row.keys() == {"x"} for body in fake.bodies for row in body["instances"])


def test_a_stall_of_the_server_is_seen_by_every_request_due_in_it(fakes):
    """100 requests at 200/s over one connection; the first takes 0.4 s, so those due meanwhile are late though quick."""

    def reply(index: int, body: dict[str, Any]) -> tuple[int, Any]:
        if index == 0:
            time.sleep(0.4)
        return 200, scores(body)

    fake = fakes(reply)
    found = replay(pa.table({"x": [1] * 100}), fake.url, model_name="m", rate_per_second=200, concurrency=1)
    # request i is due at 5 i ms and cannot be answered before 400 ms
    for i in range(0, 60, 10):
        assert found.latency_ms[i] >= 400 - 5 * i - 1
    # what a closed loop would have reported: one slow request and a quick median
    assert found.load.service_ms[0] >= 400
    assert np.median(found.load.service_ms) < 100


def test_failures_are_counted_shown_and_leave_their_rows_empty(fakes):
    fake = fakes(lambda i, body: (200, scores(body)) if i != 1 else (400, {"error": "row 0"}))
    found = replay(pa.table({"x": [1, 2, 3]}), fake.url, model_name="m", rate_per_second=100, concurrency=1)
    assert (found.count, found.errors) == (3, 1)
    assert np.isnan(found.pctr).tolist() == [False, True, False]
    assert "status 400" in found.load.first_errors[0]
    assert "row 0" in found.load.first_errors[0]


def test_nobody_there_is_an_error_for_each_request_and_no_exception():
    url = f"http://127.0.0.1:{claim('127.0.0.1', 0, '--port')}"
    found = replay(pa.table({"x": [1, 2]}), url, model_name="m", rate_per_second=100)
    assert (found.count, found.errors) == (2, 2)
    assert np.isnan(found.p99_ms)
    assert "ConnectionRefusedError" in found.load.first_errors[0]


def test_replay_is_bounded_and_refuses_nonsense(fakes):
    fake = fakes(lambda _, body: (200, scores(body)))
    found = replay(pa.table({"x": [1] * 50}), fake.url, model_name="m", rate_per_second=5000, max_requests=10)
    assert found.count == 10
    assert replay(pa.table({"x": pa.array([], pa.int64())}), fake.url, model_name="m").count == 0
    with pytest.raises(UsageError, match="must be positive"):
        replay(pa.table({"x": [1]}), fake.url, model_name="m", rate_per_second=0)
    with pytest.raises(UsageError, match="give the URL of the server"):
        replay(pa.table({"x": [1]}), "localhost:8080", model_name="m")


def test_json_rows_have_seconds_since_1970_and_no_nulls():
    moments = [
        datetime(2024, 2, 29, 23, 59, 59, 999_000, UTC),
        datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC),
        None,
    ]
    table = pa.table(
        {
            "t": pa.array(moments, pa.timestamp("us", "UTC")),
            "ns": pa.array([1_500_000_000, None, 0], pa.timestamp("ns")),
            "s": pa.array(["a", None, "b"]).dictionary_encode(),
            "l": pa.array([["x"], [], None]),
        }
    )
    assert json_rows(table, ["t", "ns", "s", "l", "absent"]) == [
        {"t": 1709251199, "ns": 1, "s": "a", "l": ["x"]},
        {"t": -1, "l": []},
        {"ns": 0, "s": "b"},
    ]


def transport(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    left, seen = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), seen


GOOD = httpx.Response(
    200,
    json={"predictions": [{"pctr": 0.25, "logit": -1.0986}]},
    headers={"x-clickmill-version": "3", "x-clickmill-bundle": "ab"},
)


def test_the_client_asks_again_after_a_lost_connection_and_not_after_a_no():
    mock, seen = transport(httpx.ConnectError("refused"), httpx.ReadError("reset"), GOOD)
    with Client(
        "http://x", model_name="m", transport=mock, policy=RetryPolicy(pause_seconds=0.001)
    ) as client:
        found = client.predict([{"a": 1}])
    assert (found.pctr.tolist(), found.version, found.digest) == ([0.25], "3", "ab")
    assert len(seen) == 3
    mock, seen = transport(httpx.Response(400, json={"error": "row 0, field `a`: must be a string"}))
    with (
        Client("http://x", model_name="m", transport=mock) as client,
        pytest.raises(RequestError, match="row 0, field `a`"),
    ):
        client.predict([{"a": 1}])
    assert len(seen) == 1


@pytest.mark.parametrize(("status", "kind"), [(413, RequestTooLarge), (503, NotReady)])
def test_the_client_raises_the_librarys_own_errors(status, kind):
    mock, _ = transport(httpx.Response(status, json={"error": "words"}))
    never = RetryPolicy(retries=0)
    with (
        Client("http://x", model_name="m", transport=mock, policy=never) as client,
        pytest.raises(kind, match="words"),
    ):
        client.predict([{}])


def test_the_client_gives_up_with_a_remedy():
    mock, seen = transport(*[httpx.ConnectError("refused")] * 3)
    words = r"after 3 tries: .*\(refused\).*clickmill serve BUNDLE"
    with (
        Client("http://x", model_name="m", transport=mock, policy=RetryPolicy(pause_seconds=0.001)) as client,
        pytest.raises(Unreachable, match=words),
    ):
        client.predict([{}])
    assert len(seen) == 3


def test_the_client_asks_for_the_name_when_there_is_one_model():
    mock, seen = transport(httpx.Response(200, json={"models": ["ctr"]}), GOOD)
    with Client("http://x", transport=mock) as client:
        client.predict([{}])
    assert seen[1].url.path == "/v1/models/ctr:predict"


def test_tensor_bodies_refuse_types_v2_has_no_name_for():
    with pytest.raises(RequestError, match="field `x`: an array of float64"):
        tensor_body({"x": np.zeros(1)}, binary=True)


def test_a_taken_port_is_named_with_the_way_out():
    with listen("127.0.0.1", 0, "--http-port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            listen("127.0.0.1", port, "--http-port")
    assert f"port {port} on 127.0.0.1 is in use by another program" in str(caught.value)
    assert "--http-port 0 for a free one" in str(caught.value)
    with pytest.raises(UsageError, match="is no address of this machine"):
        listen("192.0.2.1", 0, "--http-port")
