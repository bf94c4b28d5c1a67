"""A ranker before a predictor, both as processes: the same rankings as one endpoint, and an answer whatever becomes of the predictor."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.process import Endpoint, running_server
from tests.serving.small_bundle import pctr_of, write_small_bundle
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
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


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

    def __init__(self, endpoint: Endpoint, clients: int = 4) -> None:
        self.answers: list[tuple[float, httpx.Response]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._endpoint = endpoint
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
                self.answers.append((start, rank(self._endpoint)))
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


def answered(endpoint: Endpoint, protocol: str) -> float:
    """Of the metric of answers; the process counts them all."""
    text = httpx.get(f"{endpoint.url}/metrics", trust_env=False).text
    line = f'clickmill_request_seconds_count{{model_name="small",protocol="{protocol}"}} '
    return sum(float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line))


def before(predictor: Endpoint, folder: Path, protocol: str = "grpc-v2") -> Any:
    told = {"target": predictor.grpc_target, "model_name": "small", "protocol": protocol}
    return running_server(folder, model_name="small", predictor=told, timeout_ms=1000)


@pytest.mark.parametrize("protocol", ["grpc-v2", "tf-serving"])
def test_a_ranker_answers_what_the_endpoint_answers(predictor: Endpoint, few: Path, protocol: str) -> None:
    with before(predictor, few, protocol) as ranker:
        # the first call opens the connection, and with tf-serving imports TensorFlow
        until_scored(ranker)
        found = rank(ranker, 20_000)
        assert scored(found) == pytest.approx(EXPECTED, abs=1e-6)
        assert scored(found) == pytest.approx(scored(rank(predictor, 20_000)), abs=1e-6)
        why = rank(ranker, 20_000, query="?explain=1").json()
        assert why["ranked"][0]["logit_by_field"]["returning"] == pytest.approx(0.5, abs=1e-4)
        # What the ranker asked is told from callers' own requests, which it counted itself.
        own = {"grpc-v2": "grpc", "tf-serving": "tf"}[protocol]
        assert answered(predictor, "ranker") > 0
        assert answered(predictor, own) == 0
        assert answered(ranker, "rank") > 0


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
