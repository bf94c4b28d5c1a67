"""More requests than a slow graph can answer, to a real process: turned away at once, or scored in company; none wrong, none lost."""

from __future__ import annotations

import http.client
import json
import threading
import time

import pytest

from clickmill.bundle import Store
from serving.client import Client, RetryPolicy
from serving.process import Endpoint, running_server
from tests.integration.endpoint_metrics import metric
from tests.serving.small_bundle import BIASES, GOOD_ROW, logit_of
from tests.waiting import until

pytestmark = pytest.mark.integration

SLOW = """
import json, sys, time
from dataclasses import replace
from serving.server import serve
from serving.engines import load_verified

class Slow:
    ranks = False
    def __init__(self, scorer):
        self.predict_now, self.contract, self.digest = scorer.predict, scorer.contract, scorer.digest
    def predict(self, raw):
        time.sleep(0.01)
        return self.predict_now(raw)

def load(path):
    loaded = load_verified(path)
    return replace(loaded, scorer=Slow(loaded.scorer))

serve(**json.loads(sys.argv[1]), load=load)
"""
"""An endpoint whose graph takes 10 ms more, however many rows it is given."""

TIMEOUT_MS = 2000
"""Of a ranking."""


class Crowd:
    """Clients that each ask again as soon as they are answered, and a moment later when they are turned away."""

    def __init__(self, endpoint: Endpoint, clients: int, ranking: dict[str, object] | None = None) -> None:
        """They ask for rankings where one is given, else for predictions."""
        self.scored: list[tuple[str, float]] = []
        self.ranked: list[tuple[str | None, list[str]]] = []
        self.shed: list[http.client.HTTPMessage] = []
        self.failures: list[str] = []
        self._ranking = ranking
        self._address = endpoint.url.removeprefix("http://")
        self._stop = threading.Event()
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
        connection = http.client.HTTPConnection(self._address, timeout=30)
        verb = "predict" if self._ranking is None else "rank"
        body = json.dumps(self._ranking or {"instances": [GOOD_ROW]})
        headers = {"content-type": "application/json"}
        if self._ranking is not None:
            headers["x-request-timeout-ms"] = str(TIMEOUT_MS)
        while not self._stop.is_set():
            connection.request("POST", f"/v1/models/small:{verb}", body, headers)
            answer = connection.getresponse()
            data = json.loads(answer.read())
            if answer.status == 200 and self._ranking is not None:
                sources = [one["source"] for one in data["ranked"]]
                self.ranked.append((answer.headers["x-clickmill-fallback"], sources))
            elif answer.status == 200:
                logit = data["predictions"][0]["logit"]
                self.scored.append((answer.headers["x-clickmill-version"], logit))
            elif (answer.status, data["reason"]) == (503, "overload"):
                self.shed.append(answer.headers)
                time.sleep(0.05)
            else:
                self.failures.append(f"{answer.status} {data}")
        connection.close()


def late_answers(endpoint: Endpoint, protocol: str) -> float:
    """By the endpoint's own clock: what waits in this machine's queues before it is no fault of the endpoint."""
    return metric(endpoint, "clickmill_late_answers_total", protocol=protocol)


def test_too_many_clients_are_turned_away_until_the_limit_fits_and_the_rest_is_answered_right(bundles):
    with running_server(bundles[0], model_name="small", python=SLOW) as endpoint:
        with Crowd(endpoint, clients=30) as crowd:
            until(lambda: len(crowd.shed) >= 30 and len(crowd.scored) >= 100)
            limit = metric(endpoint, "clickmill_concurrency_limit")
        assert limit < 30, "all thirty would wait a third of a second"
        assert crowd.failures == []
        assert {headers["retry-after"] for headers in crowd.shed} == {"1"}
        for _, logit in crowd.scored:
            assert logit == pytest.approx(logit_of(GOOD_ROW), abs=1e-4)
        assert metric(endpoint, "clickmill_requests_rejected_total") >= 30
        with Client(
            endpoint.url, model_name="small", policy=RetryPolicy(retries=0)
        ) as client:  # and it is as before
            assert client.predict([GOOD_ROW]).logit[0] == pytest.approx(logit_of(GOOD_ROW), abs=1e-4)


def test_in_company_all_are_answered_and_a_reload_in_the_middle_mixes_no_bundles(bundles, tmp_path):
    store = Store(tmp_path / "store")
    store.add(bundles[0])
    options = {"batch_rows": 64, "threads": 1, "watch_seconds": 0.2, "shed_wait_ms": 0}
    with running_server(store.root, model_name="small", python=SLOW, **options) as endpoint:
        with Crowd(endpoint, clients=30) as crowd:
            until(lambda: len(crowd.scored) >= 100)
            store.add(bundles[1])
            until(lambda: "2" in {version for version, _ in crowd.scored[-30:]})
            done = len(crowd.scored)
            until(lambda: len(crowd.scored) >= done + 100)
        assert (crowd.failures, crowd.shed) == ([], [])
        for version, logit in crowd.scored:
            assert logit == pytest.approx(logit_of(GOOD_ROW, BIASES[int(version) - 1]), abs=1e-4), version
        requests = metric(endpoint, "clickmill_batch_requests_sum")
        runs = metric(endpoint, "clickmill_batch_requests_count")
        assert requests >= 2 * runs, "thirty clients and one thread: the runs must be shared"


def test_at_many_times_the_load_every_ranking_has_an_answer_and_most_come_within_their_time(bundles):
    """More clients without pause than are let in at once, at a graph that takes a hundred rankings a second and thread."""
    ads = [{"id": f"ad {i}", "bid": 1.0 + i, "ad_id": "a1" if i % 2 else "stranger"} for i in range(20)]
    ranking = {"user": {"user_id": "u1"}, "candidates": ads, "slots": 5}

    def by_the_model() -> int:
        return sum(fallback is None for fallback, _ in crowd.ranked)

    with (
        running_server(bundles[0], model_name="small", python=SLOW) as endpoint,
        Crowd(endpoint, clients=120, ranking=ranking) as crowd,
    ):
        until(lambda: by_the_model() >= 50 and len(crowd.ranked) - by_the_model() >= 400)
        late, answered = late_answers(endpoint, "rank"), len(crowd.ranked)
    assert (crowd.failures, crowd.shed) == ([], [])
    for fallback, sources in crowd.ranked:
        assert fallback in (None, "overload", "deadline")
        assert set(sources) <= ({"recent", "ad_prior", "global_prior"} if fallback else {"model"})
    assert late <= answered / 2, f"{late:g} of {answered} were late by the endpoint's own clock"
