"""A ranker before a predictor, both as processes: the same rankings as one endpoint, and an answer whatever becomes of the predictor."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.process import Endpoint, running_server
from tests.integration.endpoint_metrics import metric
from tests.serving.small_bundle import pctr_of
from tests.waiting import until

pytestmark = pytest.mark.integration

BODY: dict[str, Any] = {
    "user": {"user_id": "u1", "returning": True},
    "context": {"device": "desk", "shown_at": 1_700_000_000},
    "candidates": [{"id": ad, "ad_id": ad, "bid": 1.0, "price": 3.0} for ad in ("a1", "a2", "ü3", "a9")],
}
EXPECTED = {
    ad: pctr_of({"ad_id": ad, "price": 3.0, "returning": True, "shown_at": 1_700_000_000})
    for ad in ("a1", "a2", "ü3", "a9")
}


@pytest.fixture(scope="module")
def bundle(bundles: list[Path]) -> Path:
    return bundles[0]


def rank(endpoint: Endpoint, timeout_ms: int = 400, query: str = "", **headers: str) -> httpx.Response:
    told = {"x-request-timeout-ms": str(timeout_ms), **headers}
    url = f"{endpoint.url}/v1/models/small:rank{query}"
    return httpx.post(url, json=BODY, headers=told, timeout=30, trust_env=False)


def scored(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    assert answer.json()["fallback"] is None
    return {one["id"]: one["pctr"] for one in answer.json()["ranked"]}


def until_scored(endpoint: Endpoint) -> None:
    until(lambda: rank(endpoint).json()["fallback"] is None, lambda: "the predictor is back and not asked")


class Crowd:
    """Clients that rank without pause; what each got is kept."""

    def __init__(self, endpoint: Endpoint, clients: int = 4, timeout_ms: int = 400) -> None:
        self.answers: list[tuple[float, httpx.Response]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._endpoint, self._timeout_ms = endpoint, timeout_ms
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                self.answers.append((start, rank(self._endpoint, self._timeout_ms)))
            except httpx.HTTPError as error:
                self.failures.append(repr(error))


@pytest.fixture(scope="module")
def few(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a ranker needs of a bundle."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("manifest.json", "contract.yaml", "priors.parquet"):
        shutil.copy(bundle / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Iterator[Endpoint]:
    with running_server(bundle, model_name="small", shed_wait_ms=0) as endpoint:
        yield endpoint


def before(predictor: Endpoint, folder: Path, protocol: str = "grpc-v2", **options: Any) -> Any:
    told = {"target": predictor.grpc_target, "model_name": "small", "protocol": protocol}
    return running_server(folder, model_name="small", predictor=told, timeout_ms=1000, **options)


@pytest.mark.parametrize("protocol", ["grpc-v2", "tf-serving"])
def test_a_ranker_answers_what_the_endpoint_answers(predictor: Endpoint, few: Path, protocol: str) -> None:
    with before(predictor, few, protocol) as ranker:
        # the first call opens the connection
        until_scored(ranker)
        found = rank(ranker, 20_000)
        assert scored(found) == pytest.approx(EXPECTED, abs=1e-6)
        assert scored(found) == pytest.approx(scored(rank(predictor, 20_000)), abs=1e-6)
        why = rank(ranker, 20_000, query="?explain=1").json()
        assert why["ranked"][0]["logit_by_field"]["returning"] == pytest.approx(0.5, abs=1e-4)
        # What the ranker asked is told from callers' own requests, which it counted itself.
        own = {"grpc-v2": "grpc", "tf-serving": "tf"}[protocol]
        assert metric(predictor, "clickmill_request_seconds_count", protocol="ranker") > 0
        assert metric(predictor, "clickmill_request_seconds_count", protocol=own) == 0
        assert metric(ranker, "clickmill_request_seconds_count", protocol="rank") > 0


def test_a_predictor_that_is_killed_hangs_or_comes_back_costs_no_answer(bundle: Path, few: Path) -> None:
    with running_server(bundle, model_name="small", shed_wait_ms=0) as first:
        port = int(first.grpc_target.rsplit(":", 1)[1])
        with before(first, few) as ranker:
            until_scored(ranker)
            with Crowd(ranker) as crowd:
                time.sleep(0.5)
                first.process.send_signal(signal.SIGSTOP)
                time.sleep(1.5)
                first.process.send_signal(signal.SIGCONT)
                until_scored(ranker)
                first.process.kill()
                first.process.wait()
                gone = time.monotonic()
                time.sleep(1.0)
                with running_server(bundle, model_name="small", grpc_port=port, shed_wait_ms=0):
                    until_scored(ranker)
                    time.sleep(0.3)
            text = httpx.get(f"{ranker.url}/metrics", trust_env=False).text
    assert crowd.failures == []
    assert {answer.status_code for _, answer in crowd.answers} == {200}
    reasons = set()
    for _, answer in crowd.answers:
        body = answer.json()
        reasons.add(body["fallback"])
        assert len(body["ranked"]) == 4
        if body["fallback"] is None:
            assert scored(answer) == pytest.approx(EXPECTED, abs=1e-6), "a scored answer is right"
        else:
            assert answer.headers["x-clickmill-fallback"] == body["fallback"]
            assert {one["source"] for one in body["ranked"]} <= {"recent", "ad_prior", "global_prior"}
    assert None in reasons
    assert reasons & {"predictor", "deadline"}
    dead = [answer.json()["fallback"] for start, answer in crowd.answers if gone < start < gone + 0.9]
    assert dead
    assert set(dead) == {"predictor"}
    assert 'clickmill_fallbacks_total{model_name="small",reason="predictor"}' in text


def test_a_caller_that_wants_the_error_gets_it(few: Path) -> None:
    nobody = {"target": "127.0.0.1:1", "model_name": "small"}
    with running_server(few, model_name="small", predictor=nobody) as ranker:
        refused = rank(ranker, **{"x-clickmill-on-failure": "error"})
        assert (refused.status_code, refused.json()["reason"]) == (503, "predictor")
        assert refused.headers["retry-after"] == "1"
        answered = rank(ranker)
        assert answered.json()["fallback"] == "predictor"
        assert [one["source"] for one in answered.json()["ranked"]] == [
            "ad_prior", "global_prior", "global_prior", "ad_prior",
        ]  # fmt: skip


class HungBroker:
    """Takes connections, and what fits into their buffers; reads and answers nothing."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                self.taken.append(self._listening.accept()[0])

    def __enter__(self) -> HungBroker:
        return self

    def __exit__(self, *raised: object) -> None:
        for one in (self._listening, *self.taken):
            one.close()


def test_an_event_broker_that_hangs_holds_up_no_ranking_and_not_the_end(
    predictor: Endpoint, few: Path
) -> None:
    """Its queue full, so that every further answer finds no room. Were one to wait for the broker, it would be a fallback: 20 s is what
    rankings have here, and the broker never answers."""
    told = {"x-request-timeout-ms": "20000"}
    with HungBroker() as broker, before(predictor, few, log_events=broker.url, shed_wait_ms=0) as ranker:
        until_scored(ranker)

        def events(outcome: str) -> float:
            return metric(ranker, "clickmill_log_events_total", outcome=outcome)

        end = time.monotonic() + 300
        for candidates in (2000, 100, 4):  # 50,000 are the most that wait
            dropped = events("dropped")
            while events("dropped") == dropped:
                assert time.monotonic() < end, "the queue is never full"
                body = {**BODY, "candidates": [{"bid": 1.0, "ad_id": "a1"}] * candidates, "slots": 1}
                url = f"{ranker.url}/v1/models/small:rank"
                answer = httpx.post(url, json=body, headers=told, timeout=60, trust_env=False)
                assert answer.json()["fallback"] is None
        before_crowd = events("dropped")
        with Crowd(ranker, timeout_ms=20_000) as crowd:
            while len(crowd.answers) < 200 and not crowd.failures:
                assert time.monotonic() < end, "200 rankings take seconds"
                time.sleep(0.05)
        assert crowd.failures == []
        for _, found in crowd.answers:
            assert scored(found) == pytest.approx(EXPECTED, abs=1e-6)
        assert events("dropped") >= before_crowd + 2 * len(crowd.answers)
        assert events("sent") == 0
        assert broker.taken, "it was asked"
        assert ranker.stop(60) == 0, "the end waits ten seconds for the broker, not for ever"
