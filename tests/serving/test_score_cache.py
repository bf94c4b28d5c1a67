"""A score that was computed before is the score that would be computed: whatever is asked, in whatever order."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from clickmill.auction import AuctionRules
from serving.lanes import Lanes
from serving.limits import Limits
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.ranker_settings import RankerSettings
from serving.ranking import RankingForm, parse
from serving.refusals import DeadlinePassed
from serving.scheduler import Scheduler
from serving.score_cache import ScoreCache, keys_of
from tests.serving.small_bundle import CONTRACT, pctr_of

FORM = RankingForm.of(CONTRACT)
NOON = 1_700_049_600


def raw_of(body: dict[str, Any]) -> dict[str, np.ndarray]:
    return parse(body, FORM, Limits(), AuctionRules()).raw


def body(
    ads: list[tuple[str, float]], *, user: str = "u1", at: int = NOON, history: list[str] | None = None
) -> dict[str, Any]:
    return {
        "user": {"user_id": user, "history": history or []},
        "context": {"shown_at": at},
        "candidates": [{"ad_id": ad, "price": price, "bid": 1} for ad, price in ads],
    }  # fmt: skip


def scores(cache: ScoreCache, raw: Any, score: Any, digest: str = "d") -> Any:
    begun = cache.begin(digest, FORM, raw, score)
    asyncio.run(begun.others())
    return cache.end(begun, score)


class Computed:
    """The scorer, with the number of candidates of each run."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.runs = scorer, []

    def __call__(self, raw: Any, rows: int) -> Any:
        self.runs.append(rows)
        return self.scorer.rank(raw)


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            body,
            st.lists(st.tuples(st.sampled_from(["a1", "a2", "ü3"]), st.sampled_from([1.0, 2.0])), min_size=1, max_size=5),
            user=st.sampled_from(["u1", "u2"]),
            at=st.integers(NOON, NOON + 3 * 86_400),
            history=st.sampled_from([[], ["x"], ["x", "y"]]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([1, 4, 1000]),
)  # fmt: skip
def test_with_a_memory_every_answer_is_the_one_without(small_scorer, requests, room):
    cache = ScoreCache(room, 60.0)
    for request in requests * 2:
        raw = raw_of(request)
        found = scores(cache, raw, lambda raw, rows: small_scorer.rank(raw))
        plain = small_scorer.rank(raw)
        for name in ("pctr", "logit"):
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], plain[name], atol=1e-6)


def test_only_candidates_that_are_new_are_computed(small_scorer):
    counts: dict[str, int] = {"hit": 0, "shared": 0, "miss": 0}

    def count(outcome: str, candidates: int) -> None:
        counts[outcome] += candidates

    cache, computed = ScoreCache(100, 60.0, count), Computed(small_scorer)
    for ads in ([("a1", 1.0), ("a2", 1.0)], [("a2", 1.0), ("a1", 1.0), ("a1", 2.0)], [("a1", 1.0)]):
        scores(cache, raw_of(body(ads)), computed)
    assert computed.runs == [2, 1]
    assert counts == {"hit": 3, "shared": 0, "miss": 3}


def test_the_clock_counts_by_what_the_contract_derives_from_it():
    """The contract has the hour, and no weekday."""
    ads = [("a1", 1.0)]
    at = {second: keys_of(FORM, raw_of(body(ads, at=NOON + second))) for second in (0, 3599, 3600, 86_400)}
    assert at[0] == at[3599] == at[86_400]
    assert at[0] != at[3600]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b["user"].update(user_id="u2"),
        lambda b: b["user"].update(returning=True),
        lambda b: b["user"].update(history=["x"]),
        lambda b: b["context"].update(device="desk"),
        lambda b: b["candidates"][0].update(categories=[1]),
        lambda b: b["candidates"][0].update(price=1.5),
    ],
)
def test_every_input_of_the_graph_is_part_of_the_question(change):
    one = body([("a1", 1.0)])
    other = copy.deepcopy(one)
    change(other)
    assert keys_of(FORM, raw_of(one)) != keys_of(FORM, raw_of(other))


def test_what_is_remembered_ends_with_its_bundle_and_with_its_time(small_scorer):
    now = [0.0]
    cache, computed = ScoreCache(100, 10.0, clock=lambda: now[0]), Computed(small_scorer)
    raw = raw_of(body([("a1", 1.0)]))
    for digest, at in (("d", 0), ("d", 9), ("e", 9), ("d", 9), ("d", 18), ("d", 20)):
        now[0] = float(at)
        scores(cache, raw, computed, digest)
    assert len(computed.runs) == 4, "first of d, e, d again after e, and d when it was ten seconds old"


class Held:
    """A scorer whose runs end when they are let go, each as it is told."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.runs = scorer, []
        self.asked, self.go = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, raw: Any, rows: int) -> Any:
        self.runs.append(rows)
        self.asked.set()
        assert self.go.wait(60)
        if self.fails:
            raise DeadlinePassed("of the first one")
        return self.scorer.rank(raw)


@pytest.mark.parametrize("fails", [False, True])
def test_who_asks_what_is_being_scored_waits_for_it_and_scores_the_rest(small_scorer, fails):
    """a1 and a2 are under way when another request asks for a2 and a3. A first one that fails takes nobody with it."""
    counts: dict[str, int] = {}
    cache = ScoreCache(
        100, 60.0, lambda outcome, number: counts.update({outcome: counts.get(outcome, 0) + number})
    )
    held, second = Held(small_scorer), Computed(small_scorer)
    held.fails = fails
    raw = raw_of(body([("a2", 1.0), ("ü3", 1.0)]))

    async def both() -> Any:
        first = asyncio.create_task(
            asyncio.to_thread(cache.begin, "d", FORM, raw_of(body([("a1", 1.0), ("a2", 1.0)])), held)
        )
        await asyncio.to_thread(held.asked.wait, 60)
        begun = cache.begin("d", FORM, raw, second)
        assert (second.runs, len(begun.flights)) == ([1], 1), "a3 alone"
        waiting = asyncio.create_task(begun.others())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        held.go.set()
        await waiting
        if fails:
            with pytest.raises(DeadlinePassed):
                await first
        else:
            await first
        return cache.end(begun, second)

    found = asyncio.run(both())
    np.testing.assert_allclose(found["pctr"], small_scorer.rank(raw)["pctr"], atol=1e-6)
    assert second.runs == ([1, 1] if fails else [1])
    assert counts == {"hit": 0, "shared": 1, "miss": 3}
    later = Computed(small_scorer)
    scores(cache, raw, later)
    assert later.runs == [], "both are known now, and nothing flies on"
    assert cache._flying == {}


def test_another_bundle_waits_for_no_score_of_this_one(small_scorer):
    cache, held = ScoreCache(100, 60.0), Held(small_scorer)
    raw = raw_of(body([("a1", 1.0)]))
    thread = threading.Thread(target=cache.begin, args=("d", FORM, raw, held))
    thread.start()
    assert held.asked.wait(60)
    assert cache.begin("e", FORM, raw, Computed(small_scorer)).flights == ()
    held.go.set()
    thread.join(60)
    fresh = Computed(small_scorer)
    scores(cache, raw, fresh, "e")
    assert fresh.runs == [], "and what landed late for the one before has not taken the place of its own"


class Slow:
    """The bundle's scorer, whose runs wait until they are let go."""

    ranks = True
    contract = CONTRACT

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.digest, self.runs = scorer, scorer.digest, 0
        self.asked, self.go = threading.Event(), threading.Event()

    def rank(self, raw: Any) -> Any:
        self.runs += 1
        self.asked.set()
        assert self.go.wait(60)
        return self.scorer.rank(raw)


def test_many_equal_rankings_at_once_make_one_run_of_the_graph(small_scorer):
    """Seven pass through the one thread that is left, as none of them waits there."""
    registry = CollectorRegistry()
    model, slow = BundleModel("small", metrics=Metrics(registry)), Slow(small_scorer)
    model.swap(slow, "1")
    ranker = Ranker(model, Scheduler(model, Lanes(2, small_bytes=-1)), RankerSettings(score_cache_seconds=60))
    request = orjson.dumps(body([("a1", 1.0), ("a2", 1.0)]))
    labels = {"model_name": "small", "cache": "scores", "outcome": "shared"}

    async def crowd() -> list[bytes]:
        asked = [asyncio.create_task(ranker.answer(request, None)) for _ in range(8)]
        end = time.monotonic() + 60
        while registry.get_sample_value("clickmill_cache_reads_total", labels) != 14:
            assert time.monotonic() < end, "two candidates of each of the seven are being scored already"
            await asyncio.sleep(0.01)
        slow.go.set()
        return [answer.body for answer in await asyncio.gather(*asked)]

    assert len(set(asyncio.run(crowd()))) == 1
    assert slow.runs == 1


def test_an_endpoint_with_a_memory_says_how_often_it_helped(small_scorer):
    registry = CollectorRegistry()
    model = BundleModel("small", metrics=Metrics(registry))
    model.swap(small_scorer, "1")
    ranker = Ranker(model, Scheduler(model, Lanes(1)), RankerSettings(score_cache_seconds=60))
    request = orjson.dumps(body([("a1", 1.0), ("a2", 1.0)]))
    answers = [asyncio.run(ranker.answer(request, None)).body for _ in range(3)]
    assert len(set(answers)) == 1
    shown = {one["candidate"]: one for one in orjson.loads(answers[0])["ranked"]}
    expected = pctr_of({"ad_id": "a1", "price": 1.0, "shown_at": NOON})
    assert shown[0]["pctr"] == pytest.approx(expected, abs=1e-6)
    assert shown[0]["source"] == "model"
    labels = {"model_name": "small", "cache": "scores"}
    hits, misses = (
        registry.get_sample_value("clickmill_cache_reads_total", {**labels, "outcome": outcome})
        for outcome in ("hit", "miss")
    )
    assert (hits, misses) == (4, 2)
