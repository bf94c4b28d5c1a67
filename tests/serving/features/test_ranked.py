"""What a ranking leaves out is looked up; what it sends stays, candidate by candidate."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from clickmill.auction import AuctionRules
from clickmill.features.tensors import PAD_INT64
from clickmill.progress import SILENT
from serving.concurrency import ShedPolicy
from serving.features import FeatureMetrics, encoded, publication_of, shelf_at
from serving.lanes import Lanes
from serving.limits import Limits
from serving.metrics import Metrics
from serving.predictor import BundleModel, InService
from serving.ranker import Ranker
from serving.ranker_features import RankerFeatures
from serving.ranker_settings import RankerSettings
from serving.ranking import Ranking, RankingForm, parse
from serving.scheduler import Scheduler
from tests.serving.features.online_folder import ADS, CONTRACT, USERS, write_folder

FORM = RankingForm.of(CONTRACT)
PLENTY = RankerSettings(feature_wait_ms=60_000)


class Formula:
    """A bundle in a few lines: logit = price + clicks + 10 x items of history; it keeps what it was asked."""

    contract, digest, ranks = CONTRACT, "d" * 64, True

    def __init__(self) -> None:
        self.asked: list[dict[str, np.ndarray]] = []

    def rank(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked.append(raw)
        history = (raw["last_ads"] != PAD_INT64).sum(1)
        logit = (raw["price"] + raw["ad_clicks"] + 10 * history - 30).astype(np.float32)
        return {"logit": logit, "pctr": 1 / (1 + np.exp(-logit))}

    predict = rank


def fill(
    target: str, body: dict[str, Any], settings: RankerSettings = PLENTY
) -> tuple[Ranking, CollectorRegistry]:
    registry = CollectorRegistry()

    async def scenario() -> Ranking:
        features = RankerFeatures(target, settings, Metrics(registry), "shop", FeatureMetrics(registry))
        asked = parse(body, FORM, Limits(), AuctionRules())
        found = await features.fill(InService(Formula(), "1"), asked, None)
        await features.close()
        return found

    return asyncio.run(scenario()), registry


@pytest.fixture
def published(target: str, tmp_path) -> str:
    online = write_folder(tmp_path / "online", USERS, ADS, hours_ago=0.0)
    rows = {by: encoded(online, by) for by in ("user_id", "ad_id")}
    shelf_at(target, "shop").put(publication_of(online, CONTRACT), rows, allow_older=False, progress=SILENT)
    return target


def test_ids_alone_are_enough(published):
    body = {
        "user": {"user_id": "bob"},
        "candidates": [{"ad_id": 8, "bid": 1}, {"ad_id": 7, "bid": 1}, {"ad_id": 5, "bid": 1}],
    }
    asked, registry = fill(published, body)
    assert asked.raw["last_ads"].tolist() == [[2, 3, 4]]
    assert asked.raw["price"].tolist() == [1.25, 2.5, 9.5]
    assert asked.raw["ad_clicks"].tolist() == [0, 3, 0]
    assert asked.raw["new"].tolist() == [False, True, False]
    # AS_OF is months ago: what has a freshness is too old, and says so
    assert asked.raw["segment"].tolist() == [b"unknown"]
    told = registry.get_sample_value(
        "clickmill_features_defaulted_total", {"field": "user_ctr", "reason": "stale"}
    )
    assert told == 1
    assert registry.get_sample_value("clickmill_feature_reads_total", {"outcome": "ok"}) == 1, (
        "one read for all"
    )


def test_what_the_request_sends_stays_candidate_by_candidate(published):
    body = {
        "user": {"user_id": "ann", "last_ads": [], "segment": "travellers"},
        "candidates": [
            {"ad_id": 7, "bid": 1, "price": 100.0},
            {"ad_id": 7, "bid": 1, "price": None},
            {"ad_id": 8, "bid": 1, "price": 0.0, "ad_clicks": 5},
        ],
    }  # fmt: skip
    asked, registry = fill(published, body)
    assert asked.raw["last_ads"].tolist() == [[PAD_INT64] * 3]
    assert asked.raw["segment"].tolist() == [b"travellers"]
    assert asked.raw["price"].tolist() == [100.0, 2.5, 0.0]
    assert asked.raw["ad_clicks"].tolist() == [3, 3, 5]
    labels = {"field": "segment", "reason": "stale"}
    assert registry.get_sample_value("clickmill_features_defaulted_total", labels) is None, (
        "it was not asked for"
    )


def test_a_request_that_sends_everything_reads_nothing(published):
    whole = {"ad_clicks": 1, "price": 1.0, "new": True}
    user = {"user_id": "ann", "user_ctr": 0.1, "segment": "gamers", "last_ads": [1]}
    _, registry = fill(published, {"user": user, "candidates": [{"ad_id": 7, "bid": 1, **whole}]})
    assert registry.get_sample_value("clickmill_feature_reads_total", {"outcome": "ok"}) is None


def test_without_a_store_there_is_every_ranking_has_its_defaults(tmp_path):
    asked, registry = fill(
        "redis://127.0.0.1:1/0", {"user": {"user_id": "ann"}, "candidates": [{"ad_id": 7, "bid": 1}]}
    )
    assert asked.raw["price"].tolist() == [9.5]
    labels = {"field": "price", "reason": "unreachable"}
    assert registry.get_sample_value("clickmill_features_defaulted_total", labels) == 1


def house(target: str, settings: RankerSettings) -> tuple[Ranker, Formula, CollectorRegistry]:
    registry = CollectorRegistry()
    model = BundleModel("shop", metrics=Metrics(registry))
    formula = Formula()
    model.swap(formula, "1")
    scheduler = Scheduler(model, Lanes(1), shed=ShedPolicy())
    features = RankerFeatures(target, settings, model.metrics, "shop", FeatureMetrics(registry))
    return Ranker(model, scheduler, settings, features=features), formula, registry


BODY = {
    "user": {"user_id": "ann"},
    "candidates": [{"id": "a", "ad_id": 8, "bid": 1}, {"id": "b", "ad_id": 7, "bid": 1}],
}


def test_a_ranking_is_scored_by_what_was_found(published):
    async def scenario() -> list[dict[str, Any]]:
        ranker, _, _ = house(published, PLENTY)
        answer = await ranker.answer(orjson.dumps(BODY), None)
        await ranker.close()
        return orjson.loads(answer.body)["ranked"]

    shown = asyncio.run(scenario())
    # ann clicked two ads: 20 of the 30; 8 costs 1.25 and was not clicked, 7 costs 2.5 and was, three times
    assert {one["id"]: one["logit"] for one in shown} == {"b": -4.5, "a": -8.75}


@pytest.mark.parametrize("kind", ["redis"])
def test_a_hung_store_costs_its_wait_and_no_answer(kind, tmp_path):
    from tests.serving.features.redis_process import running_redis

    settings = RankerSettings(feature_wait_ms=50)
    with running_redis(tmp_path) as redis:
        redis.hang()

        async def scenario() -> tuple[list[Any], CollectorRegistry]:
            ranker, _, registry = house(redis.url, settings)
            answers = [await ranker.answer(orjson.dumps(BODY), None) for _ in range(6)]
            redis.go_on()
            await ranker.close()
            return answers, registry

        answers, registry = asyncio.run(scenario())
    for answer in answers:
        body = orjson.loads(answer.body)
        assert body["fallback"] is None, "defaults are the model's business"
        assert {one["logit"] for one in body["ranked"]} == {-20.5}
    late = registry.get_sample_value("clickmill_feature_reads_total", {"outcome": "late"})
    skipped = registry.get_sample_value("clickmill_feature_reads_total", {"outcome": "skipped"})
    assert (late, skipped) == (3, 3), "after three it is left alone"


def test_another_bundle_begins_without_what_was_remembered(redis, tmp_path):
    redis.client().flushall()
    online = write_folder(tmp_path / "online", USERS, ADS)
    rows = {by: encoded(online, by) for by in ("user_id", "ad_id")}
    shelf_at(redis.url, "shop").put(
        publication_of(online, CONTRACT), rows, allow_older=False, progress=SILENT
    )

    async def scenario() -> dict[str, float]:
        ranker, _, registry = house(redis.url, PLENTY)
        found = {}
        for step in ("first", "again", "other bundle"):
            if step == "other bundle":
                other = Formula()
                other.digest = "e" * 64
                ranker._model.swap(other, "2")
            await ranker.answer(orjson.dumps(BODY), None)
            labels = {"model_name": "shop", "cache": "features", "outcome": "hit"}
            found[step] = registry.get_sample_value("clickmill_cache_reads_total", labels) or 0.0
        await ranker.close()
        return found

    assert asyncio.run(scenario()) == {"first": 0, "again": 3, "other bundle": 3}


def test_a_reload_while_the_store_is_read_takes_nothing_from_who_waits(tmp_path):
    from tests.serving.features.redis_process import running_redis

    with running_redis(tmp_path) as redis:

        async def scenario() -> list[Any]:
            ranker, _, _ = house(redis.url, RankerSettings(feature_wait_ms=5000))
            redis.hang()
            asking = []
            for digest in "abcd":  # each ranking begins on another bundle than the one before
                scorer = Formula()
                scorer.digest = digest * 64
                ranker._model.swap(scorer, digest)
                asking.append(asyncio.create_task(ranker.answer(orjson.dumps(BODY), None)))
                await asyncio.sleep(0.05)
            redis.go_on()
            answers = await asyncio.gather(*asking)
            await ranker.close()
            return [orjson.loads(answer.body) for answer in answers]

        answers = asyncio.run(scenario())
    assert [answer["bundle_digest"][0] for answer in answers] == list("abcd")
    assert {answer["fallback"] for answer in answers} == {None}
