"""Micro-batching against the same requests asked alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import RequestError
from serving.batcher import Batcher, BatchSettings
from serving.client import tensor_body
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.refusals import DeadlinePassed, NotFinite
from serving.scheduler import Scheduler
from tests.serving.small_bundle import CONTRACT, raw_rows


class Held:
    """A scorer that notes its runs and can be held up. Rows of the price `broken` come out NaN, of `fatal` the run fails."""

    ranks = False
    contract = CONTRACT

    def __init__(self, scorer: Any, digest: str = "d" * 64, shift: float = 0.0) -> None:
        self.scorer, self.digest, self.shift = scorer, digest, shift
        self.go = threading.Event()
        self.go.set()
        self.runs: list[int] = []

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.go.wait(20)
        self.runs.append(len(raw["price"]))
        if (raw["price"] == FATAL).any():
            raise RuntimeError("the graph fell over")
        scores = self.scorer.predict(raw)
        pctr = np.where(raw["price"] == BROKEN, np.nan, scores["pctr"] + self.shift)
        return {"pctr": pctr.astype(np.float32), "logit": scores["logit"]}


BROKEN, FATAL = np.float32(777), np.float32(666)


class House:
    def __init__(self, scorer: Any, rows: int = 100, wait_us: float = 0.0) -> None:
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", metrics=Metrics(self.registry))
        self.scorer = Held(scorer)
        self.model.swap(self.scorer, "1")
        self.batcher = Batcher(self.model, BatchSettings(rows=rows, wait_us=wait_us), workers=1)

    async def ask(self, raw: dict[str, np.ndarray], begin: Any = lambda: None) -> Any:
        body, headers = tensor_body(raw, binary=True)
        question = self.model.ask_v2(body, int(headers["inference-header-content-length"]))
        return await self.batcher.answer(question, begin)

    async def together(self, *requests: Any) -> list[Any]:
        """The outcomes of requests that all wait behind a run that is held up."""
        self.scorer.go.clear()
        first = asyncio.create_task(self.ask(raw_rows(1)))
        await asyncio.sleep(0.02)
        tasks = [asyncio.create_task(request) for request in requests]
        await asyncio.sleep(0.02)
        self.scorer.go.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    def alone(self, raw: dict[str, np.ndarray]) -> np.ndarray:
        return self.scorer.scorer.predict(raw)["pctr"]


@pytest.fixture
def house(small_scorer: Any) -> House:
    return House(small_scorer)


def pctr_of(answer: Any) -> np.ndarray:
    rows = (len(answer.body) - answer.json_length) // 8
    return np.frombuffer(answer.body[answer.json_length :], np.float32)[:rows]


def test_requests_that_wait_together_are_scored_by_one_run_and_get_what_they_would_get_alone(house):
    requests = [raw_rows(n, seed=n) for n in (1, 7, 3, 20)]
    answers = asyncio.run(house.together(*(house.ask(raw) for raw in requests)))
    assert house.scorer.runs == [1, 31]
    for raw, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(pctr_of(answer), house.alone(raw), atol=1e-7)
    value = house.registry.get_sample_value
    assert value("clickmill_batch_rows_sum", {"model_name": "small"}) == 32
    assert value("clickmill_batch_requests_sum", {"model_name": "small"}) == 5
    assert value("clickmill_batch_requests_count", {"model_name": "small"}) == 2
    assert value("clickmill_predictions_total", {"model_name": "small"}) == 32


def test_a_run_holds_no_more_rows_than_it_may(small_scorer):
    house = House(small_scorer, rows=10)
    asyncio.run(house.together(*(house.ask(raw_rows(4)) for _ in range(5)), house.ask(raw_rows(30))))
    assert house.scorer.runs == [1, 8, 8, 4, 30]


def test_a_failed_run_is_settled_request_by_request(house):
    fatal = {**raw_rows(2), "price": np.array([1.0, FATAL], np.float32)}
    good, bad, other = asyncio.run(
        house.together(house.ask(raw_rows(3, seed=1)), house.ask(fatal), house.ask(raw_rows(4, seed=2)))
    )
    np.testing.assert_allclose(pctr_of(good), house.alone(raw_rows(3, seed=1)), atol=1e-7)
    np.testing.assert_allclose(pctr_of(other), house.alone(raw_rows(4, seed=2)), atol=1e-7)
    assert isinstance(bad, RuntimeError)
    assert house.scorer.runs == [1, 9, 3, 2, 4]


def test_predictions_that_are_not_finite_fail_the_request_they_belong_to(house):
    broken = {**raw_rows(2), "price": np.array([1.0, BROKEN], np.float32)}
    good, bad = asyncio.run(house.together(house.ask(raw_rows(3)), house.ask(broken)))
    assert len(pctr_of(good)) == 3
    assert isinstance(bad, NotFinite)
    assert house.scorer.runs == [1, 5], "one run was enough to know"


def test_a_request_that_is_too_late_is_not_scored_and_its_neighbours_are(house):
    def late() -> None:
        raise DeadlinePassed("too late")

    good, bad = asyncio.run(house.together(house.ask(raw_rows(3)), house.ask(raw_rows(5), begin=late)))
    assert (len(pctr_of(good)), type(bad)) == (3, DeadlinePassed)
    assert house.scorer.runs == [1, 3]


def test_a_reload_in_the_middle_leaves_each_request_on_the_bundle_it_was_checked_against(house, small_scorer):
    newer = Held(small_scorer, digest="e" * 64, shift=0.25)
    before, after = raw_rows(2, seed=1), raw_rows(3, seed=2)

    async def later() -> Any:
        await asyncio.sleep(0.005)
        house.model.swap(newer, "2")
        return await house.ask(after)

    async def third() -> Any:
        await asyncio.sleep(0.01)
        return await house.ask(before)

    old, new, newest = asyncio.run(house.together(house.ask(before), later(), third()))
    assert [a.headers["x-clickmill-version"] for a in (old, new, newest)] == ["1", "2", "2"]
    np.testing.assert_allclose(pctr_of(old), house.alone(before), atol=1e-7)
    np.testing.assert_allclose(pctr_of(new), house.alone(after) + 0.25, atol=1e-6)
    assert (house.scorer.runs, newer.runs) == ([1, 2], [5])


def test_a_free_thread_waits_as_long_as_it_is_told_to(small_scorer):
    house = House(small_scorer, rows=8, wait_us=400_000)

    async def spread() -> None:
        tasks = []
        for rows in (3, 5, 2):
            tasks.append(asyncio.create_task(house.ask(raw_rows(rows))))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(spread())
    assert house.scorer.runs == [8, 2], "full at once, and the rest when its wait is over"


def test_whoever_gave_up_waiting_troubles_nobody(house):
    async def scene() -> Any:
        house.scorer.go.clear()
        first = asyncio.create_task(house.ask(raw_rows(1)))
        await asyncio.sleep(0.02)
        gone, stays = (asyncio.create_task(house.ask(raw_rows(n))) for n in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        house.scorer.go.set()
        await first
        return await stays

    assert len(pctr_of(asyncio.run(scene()))) == 3


def test_a_fault_of_our_own_reaches_every_request_of_the_run_and_the_next_ones_are_answered(
    house, monkeypatch
):
    def broken(self: Any, value: float) -> None:
        raise ZeroDivisionError

    async def scene() -> list[Any]:
        with monkeypatch.context() as patch:
            patch.setattr(type(house.batcher._rows), "observe", broken)
            failed = await asyncio.gather(
                house.ask(raw_rows(2)), house.ask(raw_rows(3)), return_exceptions=True
            )
        return [*failed, await house.ask(raw_rows(4))]

    first, second, after = asyncio.run(scene())
    assert (type(first), type(second), len(pctr_of(after))) == (ZeroDivisionError, ZeroDivisionError, 4)


def test_a_bad_request_is_refused_before_it_has_neighbours(house):
    scheduler = Scheduler(house.model, Lanes(1), batch=BatchSettings(rows=100))
    body = b'{"instances": [{"ad_id": "a1", "position": 0}]}'
    with pytest.raises(RequestError, match="field `position`"):
        asyncio.run(scheduler.answer(len(body), None, house.model.ask_v1, body))
    assert house.scorer.runs == []
    scheduler.close()
