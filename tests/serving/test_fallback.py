"""Rankings when the model is not there: each trouble is answered with the best that is known, marked and counted; a broken request is not."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import BundleCorrupt, RequestError
from serving.concurrency import ShedPolicy
from serving.fallback import wish_of
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import Answer, BundleModel
from serving.ranker import Ranker
from serving.ranker_settings import RankerSettings
from serving.recent_scores import RecentScores
from serving.refusals import DeadlinePassed, MalformedRequest, NotFinite, NotReady, Overloaded
from serving.scheduler import Scheduler
from serving.standby import Standby, first_standby, read_standby
from tests.serving.small_bundle import CONTRACT, PRIORS, pctr_of, write_small_bundle

STANDBY = Standby.of(CONTRACT, PRIORS, "e" * 64, "3")
BODY: dict[str, Any] = {
    "request_id": "r1",
    "user": {"user_id": "u1"},
    "candidates": [
        {"id": "best rate", "ad_id": "a1", "bid": 1.0},
        {"id": "best bid", "ad_id": "a2", "bid": 9.0},
        {"id": "stranger", "ad_id": "a99", "bid": 2.0},
    ],
}


class Moody:
    """A scorer that can be made to wait, to give NaN, or to fall over."""

    ranks = False
    contract = CONTRACT

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.digest = scorer, scorer.digest
        self.go, self.asked = threading.Event(), threading.Event()
        self.go.set()
        self.mood = ""

    def predict(self, raw: Any) -> Any:
        self.asked.set()
        self.go.wait(20)
        if self.mood == "falls over":
            raise RuntimeError("secret")
        scores = self.scorer.predict(raw)
        return {**scores, "pctr": scores["pctr"] * np.float32("nan")} if self.mood == "nan" else scores


class House:
    """A ranker over a scorer that has moods."""

    def __init__(
        self, scorer: Any, *, shed: ShedPolicy | None = None, settings: RankerSettings | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", metrics=Metrics(self.registry))
        self.scorer = Moody(scorer)
        self.scheduler = Scheduler(self.model, Lanes(1), shed=shed)
        self.ranker = Ranker(self.model, self.scheduler, settings)

    def serve(self) -> House:
        self.model.swap(self.scorer, "7", PRIORS)
        return self

    def ask(self, body: Any = BODY, timeout: float | None = None, **options: Any) -> Answer:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        deadline = self.scheduler.admission.deadline(timeout)
        return asyncio.run(self.ranker.answer(content, deadline, **options))

    def fallbacks(self, reason: str) -> float:
        labels = {"model_name": "small", "reason": reason}
        return self.registry.get_sample_value("clickmill_fallbacks_total", labels) or 0.0

    def candidates(self, source: str) -> float:
        labels = {"model_name": "small", "source": source}
        return self.registry.get_sample_value("clickmill_fallback_candidates_total", labels) or 0.0


@pytest.fixture
def house(small_scorer: Any) -> House:
    return House(small_scorer).serve()


def seen(answer: Answer) -> list[tuple[str, float, str]]:
    return [(one["id"], one["pctr"], one["source"]) for one in orjson.loads(answer.body)["ranked"]]


BY_RATES = [
    ("best bid", 0.01, "ad_prior"),  # eCPM 90
    ("best rate", 0.06, "ad_prior"),  # 60, as the stranger's, who came later
    ("stranger", 0.03, "global_prior"),
]


def test_a_healthy_answer_comes_from_the_model_and_says_so(house: House) -> None:
    answer = house.ask()
    body = orjson.loads(answer.body)
    assert body["fallback"] is None
    assert "x-clickmill-fallback" not in answer.headers
    assert {source for _, _, source in seen(answer)} == {"model"}


@pytest.mark.parametrize(("mood", "reason"), [("nan", "not_finite"), ("falls over", "internal")])
def test_a_broken_graph_is_answered_by_click_rates(house: House, mood: str, reason: str) -> None:
    house.scorer.mood = mood
    answer = house.ask()
    assert seen(answer) == BY_RATES
    body = orjson.loads(answer.body)
    assert body["fallback"] == answer.headers["x-clickmill-fallback"] == reason
    assert body["ranked"][0]["logit"] == pytest.approx(math.log(0.01 / 0.99))
    assert [one["ecpm"] for one in body["ranked"]] == pytest.approx([90, 60, 60])
    assert body["ranked"][0]["price"] == pytest.approx(6.0), "60 of the next, over 1000 times 0.01"
    assert (house.fallbacks(reason), house.candidates("ad_prior"), house.candidates("global_prior")) == (
        1,
        2,
        1,
    )


def test_a_user_who_was_ranked_before_gets_those_scores(house: House) -> None:
    scores = {name: pctr for name, pctr, _ in seen(house.ask())}
    house.scorer.mood = "nan"
    more = {**BODY, "candidates": [*BODY["candidates"], {"id": "new here", "ad_id": "a1000", "bid": 1}]}
    found = {name: (pctr, source) for name, pctr, source in seen(house.ask(more))}
    assert found == {
        **{name: (pctr, "recent") for name, pctr in scores.items()},
        "new here": (0.03, "global_prior"),
    }
    assert scores["best rate"] == pytest.approx(pctr_of({"ad_id": "a1"}), abs=1e-6)
    another = {**BODY, "user": {"user_id": "u2"}}
    assert {source for _, _, source in seen(house.ask(another))} == {"ad_prior", "global_prior"}


def test_scores_of_the_bundle_before_are_no_fallback(house: House, small_scorer: Any) -> None:
    house.ask()
    other = Moody(small_scorer)
    other.digest, other.mood = "f" * 64, "nan"
    house.model.swap(other, "8", PRIORS)
    assert {source for _, _, source in seen(house.ask())} == {"ad_prior", "global_prior"}


def test_before_the_first_bundle_is_warm_its_click_rates_answer(small_scorer: Any) -> None:
    house = House(small_scorer)
    with pytest.raises(NotReady):
        house.ask()
    house.model.standby = STANDBY
    answer = house.ask()
    assert seen(answer) == BY_RATES
    assert answer.headers == {
        "x-clickmill-bundle": "e" * 64, "x-clickmill-version": "3", "x-clickmill-fallback": "not_ready",
    }  # fmt: skip


def while_one_is_scored(house: House, ask: Callable[[], Any]) -> Any:
    """What `ask` gives while the only thread is busy with another ranking."""
    large = {**BODY, "context": {"device": "desk"}, "candidates": BODY["candidates"] * 20}

    async def both() -> Any:
        house.scorer.go.clear()
        house.scorer.asked.clear()
        first = asyncio.create_task(house.ranker.answer(orjson.dumps(large), None))
        while not house.scorer.asked.is_set():
            await asyncio.sleep(0.001)
        try:
            return await ask()
        finally:
            house.scorer.go.set()
            assert orjson.loads((await first).body)["fallback"] is None

    return asyncio.run(both())


def test_who_is_turned_away_at_the_gate_is_answered_all_the_same(small_scorer: Any) -> None:
    house = House(small_scorer, shed=ShedPolicy(least=1, first=1, most=1)).serve()
    answer = while_one_is_scored(house, lambda: house.ranker.answer(orjson.dumps(BODY), None))
    assert answer.headers["x-clickmill-fallback"] == "overload"
    assert seen(answer) == BY_RATES
    with pytest.raises(Overloaded):
        while_one_is_scored(house, lambda: house.ranker.answer(orjson.dumps(BODY), None, falls_back=False))
    assert house.fallbacks("overload") == 1


def test_who_waits_for_a_thread_is_answered_before_its_deadline(house: House) -> None:
    waiting = {**BODY, "candidates": BODY["candidates"] * 20}

    async def ask() -> tuple[Answer, float]:
        start = asyncio.get_running_loop().time()
        answer = await house.ranker.answer(orjson.dumps(waiting), house.scheduler.admission.deadline(0.2))
        return answer, asyncio.get_running_loop().time() - start

    answer, seconds = while_one_is_scored(house, ask)
    assert answer.headers["x-clickmill-fallback"] == "deadline"
    assert house.fallbacks("deadline") == 1
    assert seconds >= 0.17, "it waits for the model as long as it may"


def test_scores_that_come_after_their_fallback_leave_no_trace(house: House) -> None:
    large = {**BODY, "candidates": BODY["candidates"] * 20}
    notes = []
    house.model.log = SimpleNamespace(wants=lambda i: True, offer=lambda *told: notes.append(told))

    async def scenario() -> Answer:
        house.scorer.go.clear()
        answer = await house.ranker.answer(orjson.dumps(large), house.scheduler.admission.deadline(0.1))
        house.scorer.go.set()
        # the only thread is free again when it does this
        await house.scheduler.step(1 << 20, lambda: None)
        return answer

    assert asyncio.run(scenario()).headers["x-clickmill-fallback"] == "deadline"
    assert [told.fallback for told, _ in notes] == ["deadline"]
    house.scorer.mood = "nan"
    assert "recent" not in {source for _, _, source in seen(house.ask(large))}
    house.scorer.mood = ""
    house.ask(large)
    assert [told.fallback for told, _ in notes] == ["deadline", "not_finite", None]


def test_what_a_fallback_showed_is_logged_with_its_reason(house: House) -> None:
    notes = []
    house.model.log = SimpleNamespace(wants=lambda i: True, offer=lambda *told: notes.append(told))
    house.scorer.mood = "nan"
    house.ask({**BODY, "slots": 2})
    [(told, contract)] = notes
    assert (told.request_id, told.fallback, told.bundle, contract) == (
        "r1", "not_finite", house.scorer.digest, CONTRACT,
    )  # fmt: skip
    assert told.candidates == [1, 0], "the best bid before the best rate; the stranger was not shown"
    assert (told.pctr.tolist(), told.pctr.dtype) == (pytest.approx([0.01, 0.06]), np.float32)
    assert told.logit.tolist() == pytest.approx([math.log(p / (1 - p)) for p in (0.01, 0.06)])
    assert told.raw.keys() == CONTRACT.inputs.keys()
    assert told.raw["ad_id"].tolist() == [b"a2", b"a1"]
    assert told.raw["user_id"].tolist() == [b"u1", b"u1"]
    assert told.raw["position"].tolist() == [1, 1]
    assert (told.arm, told.impression_ids) == (None, None)


def test_a_request_that_breaks_the_contract_is_answered_in_an_emergency_and_not_logged(house: House) -> None:
    """Nobody looks at its fields before it is answered; at any other hour it would have been refused."""
    notes = []
    house.model.log = SimpleNamespace(wants=lambda i: True, offer=lambda *told: notes.append(told))
    house.scorer.mood = "nan"
    house.model.standby, house.model._in_service = STANDBY, None
    broken = {**BODY, "context": {"device": "toaster"}}
    assert house.ask(broken).headers["x-clickmill-fallback"] == "not_ready"
    house.model.log.wants = lambda i: False
    house.ask()
    assert notes == []


def test_time_that_is_over_before_it_begins_is_answered_too(house: House) -> None:
    assert house.ask(timeout=1e-9).headers["x-clickmill-fallback"] == "deadline"
    with pytest.raises(DeadlinePassed):
        house.ask(timeout=1e-9, falls_back=False)


def test_who_prefers_an_error_gets_one(house: House, small_scorer: Any) -> None:
    house.scorer.mood = "nan"
    with pytest.raises(NotFinite):
        house.ask(falls_back=False)
    strict = House(small_scorer, settings=RankerSettings(fallback=False)).serve()
    strict.scorer.mood = "nan"
    with pytest.raises(NotFinite):
        strict.ask()
    assert strict.ask(falls_back=True).headers["x-clickmill-fallback"] == "not_finite"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"{", MalformedRequest, "not valid JSON"),
        ({**BODY, "candidates": [{"ad_id": "a1"}]}, RequestError, "candidate 0: `bid` is missing"),
        ({**BODY, "slots": 0}, RequestError, "`slots`"),
    ],
)
def test_a_broken_request_is_refused_at_any_hour(
    house: House, body: Any, kind: type[Exception], words: str
) -> None:
    for mood in ("", "nan"):
        house.scorer.mood = mood
        with pytest.raises(kind, match=words):
            house.ask(body)
    house.model.standby, house.model._in_service = STANDBY, None
    with pytest.raises(kind, match=words):
        house.ask(body)


def test_a_caller_says_by_header_what_it_wants_for_an_error() -> None:
    assert wish_of([], True) is True
    assert wish_of([(b"x-clickmill-on-failure", b"error")], True) is False
    assert wish_of([(b"x-clickmill-on-failure", b"fallback")], False) is True
    with pytest.raises(MalformedRequest, match="must be `fallback` or `error`; got none"):
        wish_of([(b"x-clickmill-on-failure", b"none")], True)


def test_recent_scores_end_by_age_and_by_number() -> None:
    now = [0.0]
    recent = RecentScores(4, 10.0, lambda: now[0])
    recent.note("d", "ann", ["a", None, "b"], np.array([0.1, 0.2, 0.3]))
    assert recent.of("d", "ann", ["b", "c", None]) == [0.3, None, None]
    recent.note("d", "bob", ["a", "b", "c"], np.array([0.5, 0.6, 0.7]))
    assert recent.of("d", "ann", ["b"]) == [None], "four are kept, and bob's three are newer"
    now[0] = 10.1
    assert recent.of("d", "bob", ["a"]) == [None]
    for none in (RecentScores(0, 10.0), RecentScores(10, 0.0)):
        none.note("d", "ann", ["a"], np.array([0.1]))
        assert none.of("d", "ann", ["a"]) == [None]


def test_click_rates_are_read_from_a_bundle_without_its_graph_and_only_as_they_were_written(
    tmp_path: Path,
) -> None:
    whole = write_small_bundle(tmp_path / "whole")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("manifest.json", "contract.yaml", "priors.parquet"):
        (few / name).write_bytes((whole / name).read_bytes())
    found = read_standby(few)
    assert found is not None
    assert vars(found.priors) == vars(PRIORS)
    (few / "priors.parquet").write_bytes(b"x")
    with pytest.raises(BundleCorrupt, match=r"priors.parquet: is missing or not the file that was written"):
        read_standby(few)
    assert first_standby(few) is None
    assert first_standby(tmp_path / "nothing") is None
