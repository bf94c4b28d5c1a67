"""The door of the endpoint with a clock of our own, and the whole way of a request through it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from clickmill.bundle.warmup import predict_request
from serving import app
from serving.admission import Admission, timeout_of
from serving.batcher import BatchSettings
from serving.concurrency import ShedPolicy
from serving.front import Front
from serving.grpc_server import BundleServicer
from serving.kserve_parts import kserve, pb
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.refusals import DeadlinePassed, MalformedRequest, Overloaded
from serving.scheduler import Scheduler
from serving.tf_grpc import TfServices
from tests.serving.small_bundle import CONTRACT, GOOD_ROW

TWO = ShedPolicy(least=2, first=2, most=2)
MODEL = {"model_name": "small"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_one_more_than_the_limit_is_turned_away_and_a_free_place_is_given_again(registry, clock):
    admission = Admission(Metrics(registry), "small", TWO, None, clock)
    with (
        admission.admit(None),
        admission.admit(None),
        pytest.raises(Overloaded, match="2 requests are being answered"),
        admission.admit(None),
    ):
        pytest.fail("let in")
    with admission.admit(None), admission.admit(None):
        pass


def test_a_request_that_fails_leaves_too(registry, clock):
    admission = Admission(Metrics(registry), "small", TWO, None, clock)
    for _ in range(5):
        with pytest.raises(ValueError, match="mine"), admission.admit(None):
            raise ValueError("mine")
    assert registry.get_sample_value("clickmill_requests_waiting", MODEL) == 0


def test_waiting_is_counted_until_scoring_begins_and_timed(registry, clock):
    admission = Admission(Metrics(registry), "small", TWO, None, clock)
    with admission.admit(None) as begin:
        assert registry.get_sample_value("clickmill_requests_waiting", MODEL) == 1
        clock.now += 0.005
        begin()
        assert registry.get_sample_value("clickmill_requests_waiting", MODEL) == 0
    assert registry.get_sample_value("clickmill_request_wait_seconds_sum", MODEL) == pytest.approx(0.005)


def test_whoever_left_before_scoring_is_not_scored_and_counted_once(registry, clock):
    admission = Admission(Metrics(registry), "small", TWO, None, clock)
    with admission.admit(None) as begin:
        pass
    with pytest.raises(DeadlinePassed, match="the caller has gone"):
        begin()
    assert registry.get_sample_value("clickmill_requests_waiting", MODEL) == 0


def test_the_limit_follows_the_waits_of_each_window(registry, clock):
    policy = ShedPolicy(least=2, first=10, most=20, target_wait_seconds=0.02, window_seconds=0.1)
    admission = Admission(Metrics(registry), "small", policy, None, clock)
    for _ in range(4):
        with admission.admit(None) as begin:
            clock.now += 0.03
            begin()
    with admission.admit(None):  # the first of the next window: 4 waits of 30 ms, one inside at a time
        assert admission.limit == 2
    assert registry.get_sample_value("clickmill_concurrency_limit", MODEL) == 2


def test_the_deadline_counts_from_arrival_and_a_default_stands_in(registry, clock):
    admission = Admission(Metrics(registry), "small", None, 2.0, clock)
    assert (admission.deadline(0.5), admission.deadline()) == (100.5, 102.0)
    assert (admission.deadline(0.5, since=99.0), admission.deadline(since=99.0)) == (99.5, 101.0)
    assert Admission(Metrics(CollectorRegistry()), "small", None, None, clock).deadline() is None
    with admission.admit(100.5) as begin:
        clock.now = 100.499
        begin()
    with admission.admit(100.5) as begin:
        clock.now = 100.6
        with pytest.raises(
            DeadlinePassed, match="time was over 100 ms before it could be scored; it waited 101 ms"
        ):
            begin()


@pytest.mark.parametrize("value", [b"", b"-1", b"0", b"1.5", b"soon", b"9999999999"])
def test_a_timeout_that_is_no_number_of_milliseconds_is_refused(value):
    with pytest.raises(MalformedRequest, match="x-request-timeout-ms must be a whole number of milliseconds"):
        timeout_of([(b"x-request-timeout-ms", value)])
    assert timeout_of([(b"x-request-timeout-ms", b"250")]) == 0.25
    assert timeout_of([(b"host", b"x")]) is None


class Slow:
    """A scorer that says when it is asked, and answers when it is let."""

    ranks = False
    contract = CONTRACT
    digest = "d" * 64

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.go, self.asked = scorer, threading.Event(), 0

    def predict(self, raw: Any) -> Any:
        self.asked += 1
        self.go.wait(20)
        return self.scorer.predict(raw)


class House:
    """The HTTP edge with one scoring thread; bodies are padded so that they take it."""

    def __init__(self, scorer: Any, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", metrics=Metrics(self.registry))
        self.scorer = Slow(scorer)
        self.model.swap(self.scorer, "1")
        models = kserve.ModelRepository()
        models.update(self.model)
        self.scheduler = Scheduler(self.model, Lanes(1), **options)
        self.front = Front(app.build(app.BundleDataPlane(models)), self.model, self.scheduler)
        self.body = orjson.dumps({"instances": [GOOD_ROW]}) + b" " * 10_000

    async def post(self, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        headers = {"content-type": "application/json", **headers}
        return await client.post("/v1/models/small:predict", content=self.body, headers=headers)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.front), base_url="http://edge")

    def rejected(self, reason: str) -> float | None:
        labels = {**MODEL, "protocol": "v1", "reason": reason}
        return self.registry.get_sample_value("clickmill_requests_rejected_total", labels)


def test_what_exceeds_the_limit_is_answered_503_at_once_with_when_to_come_again(small_scorer):
    house = House(small_scorer, shed=TWO)

    async def scene() -> list[httpx.Response]:
        async with house.client() as client:
            tasks = [asyncio.create_task(house.post(client)) for _ in range(5)]
            done: set[Any] = set()
            while len(done) < 3:  # those turned away are answered while the others still wait
                done, _ = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            early = [task.result() for task in done]
            house.scorer.go.set()
            answers = await asyncio.gather(*tasks)
            assert {answer.status_code for answer in early} == {503}
            return list(answers)

    answers = asyncio.run(scene())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    shed = next(answer for answer in answers if answer.status_code == 503)
    assert shed.json()["reason"] == "overload"
    assert shed.headers["retry-after"] == "1"
    assert (house.rejected("overload"), house.scorer.asked) == (3, 2)


@pytest.mark.parametrize("batched", [False, True])
def test_a_request_whose_time_is_over_is_answered_504_and_never_scored(small_scorer, batched):
    house = House(small_scorer, batch=BatchSettings(rows=100) if batched else None)

    async def scene() -> list[httpx.Response]:
        async with house.client() as client:
            first = asyncio.create_task(house.post(client))
            while not house.scorer.asked:
                await asyncio.sleep(0.001)
            late = asyncio.create_task(house.post(client, **{"x-request-timeout-ms": "1"}))
            patient = asyncio.create_task(house.post(client, **{"x-request-timeout-ms": "60000"}))
            while house.registry.get_sample_value("clickmill_requests_waiting", MODEL) < 2:
                await asyncio.sleep(0.001)
            time.sleep(0.002)
            house.scorer.go.set()
            return list(await asyncio.gather(first, late, patient))

    first, late, patient = asyncio.run(scene())
    assert (first.status_code, late.status_code, patient.status_code) == (200, 504, 200)
    assert late.json()["reason"] == "deadline"
    assert "before it could be scored" in late.json()["error"]
    assert (house.rejected("deadline"), house.scorer.asked) == (1, 2)
    house.scheduler.close()


def test_with_batching_a_request_that_is_alone_changes_no_thread_and_company_shares_a_run(small_scorer):
    house = House(small_scorer, batch=BatchSettings(rows=100))
    house.scorer.go.set()

    async def scene() -> list[httpx.Response]:
        async with house.client() as client:
            first = await house.post(client)
            assert house.registry.get_sample_value("clickmill_batch_requests_count", MODEL) == 0
            return [first, *await asyncio.gather(*(house.post(client) for _ in range(4)))]

    answers = asyncio.run(scene())
    assert {answer.text for answer in answers} == {answers[0].text}
    assert house.registry.get_sample_value("clickmill_batch_requests_sum", MODEL) == 4
    assert house.scorer.asked <= 3
    house.scheduler.close()


def test_a_timeout_that_makes_no_sense_is_a_400(small_scorer):
    house = House(small_scorer)

    async def scene() -> httpx.Response:
        async with house.client() as client:
            return await house.post(client, **{"x-request-timeout-ms": "soon"})

    answer = asyncio.run(scene())
    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed")


class Aborted(Exception):
    pass


class Call:
    """A gRPC call whose client's deadline leaves it no time."""

    def invocation_metadata(self):
        return ()

    def time_remaining(self) -> float:
        return 0.0

    async def abort(self, code: Any, words: str, metadata: Any) -> None:
        raise Aborted(code.name, words)


def test_a_grpc_call_without_time_left_is_deadline_exceeded_and_never_scored(small_scorer):
    house = House(small_scorer)
    house.scorer.go.set()
    ads = np.array([b"a1"], object)
    request = pb.ModelInferRequest(model_name="small")
    request.inputs.add(name="ad_id", datatype="BYTES", shape=[1]).contents.bytes_contents.extend(ads)
    v2 = BundleServicer(app.BundleDataPlane(kserve.ModelRepository()), house.model, house.scheduler)
    handlers = TfServices(house.model, house.scheduler).handlers()
    predict = handlers[0].service(Details("/tensorflow.serving.PredictionService/Predict")).unary_unary
    data = predict_request({"ad_id": ads}, model_name="small").SerializeToString()
    for call in (v2.ModelInfer(request, Call()), predict(data, Call())):
        with pytest.raises(Aborted) as caught:
            asyncio.run(call)
        assert caught.value.args[0] == "DEADLINE_EXCEEDED"
    assert house.scorer.asked == 0


class Details:
    """What gRPC tells of a call."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


def test_a_queue_before_the_second_step_is_seen_too(registry):
    """A ranking that names ids alone is read on the loop at once, and waits for a thread afterwards: it must count as waiting."""
    policy = ShedPolicy(least=1, first=8, most=8, window_seconds=0.01, target_wait_seconds=0.001)
    scheduler = Scheduler(
        BundleModel("small", metrics=Metrics(registry)), Lanes(1, small_bytes=10), shed=policy
    )
    go = threading.Event()

    async def work(wait: Any) -> None:
        async with scheduler.inside(None) as begin:
            await scheduler.first_step(1, begin)
            await scheduler.step(100, wait)

    async def scenario() -> None:
        first = asyncio.create_task(work(lambda: go.wait(60)))
        queued = [asyncio.create_task(work(lambda: None)) for _ in range(4)]
        await asyncio.sleep(0.1)
        go.set()
        await asyncio.gather(first, *queued)
        with scheduler.admission.admit(None):  # the window is over: its waits are judged
            pass

    asyncio.run(scenario())
    assert scheduler.admission.limit == 0.8 * 5, "four of five waited for a tenth of a second"
