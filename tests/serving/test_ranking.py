"""A ranking request held to the contract, and what its answer says."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from clickmill.auction import AuctionRules, Pricing, hold
from clickmill.errors import RequestError, RequestTooLarge
from serving.explanation import ablation
from serving.lanes import Lanes
from serving.limits import Limits
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.ranking import Judged, RankingForm, Source, answer, parse
from serving.refusals import MalformedRequest
from serving.scheduler import Scheduler
from tests.serving.small_bundle import CONTRACT, logit_of, pctr_of

FORM = RankingForm.of(CONTRACT)
RULES = AuctionRules()
GOOD: dict[str, Any] = {
    "request_id": "r1",
    "user": {"user_id": "u1", "returning": True, "history": ["a", "b"]},
    "context": {"device": "desk", "shown_at": 1_700_000_000},
    "candidates": [
        {"id": "first", "ad_id": "a1", "bid": 1.0, "price": 3.5, "categories": [7]},
        {"ad_id": "a2", "bid": 4},
        {"id": "third", "ad_id": "ü3", "bid": 0.5},
    ],
    "slots": 2,
}


def rows_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The same as rows, as a caller of the prediction routes would send them."""
    return [
        {**request["user"], **request["context"], **{k: v for k, v in c.items() if k not in ("id", "bid")}}
        for c in request["candidates"]
    ]


def broken(*path: Any, value: Any) -> dict[str, Any]:
    request = copy.deepcopy(GOOD)
    at: Any = request
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return request


def test_shared_fields_have_one_row_and_candidates_n() -> None:
    ranking = parse(GOOD, FORM, Limits(), RULES)
    assert {name: len(values) for name, values in ranking.raw.items()} == {
        "user_id": 1, "returning": 1, "history": 1, "device": 1, "shown_at": 1,
        "ad_id": 3, "price": 3, "categories": 3, "position": 3,
    }  # fmt: skip
    assert ranking.raw["position"].tolist() == [1, 1, 1]
    assert ranking.raw["price"].tolist() == [3.5, 2.0, 2.0]
    assert ranking.outline.bids.tolist() == [1.0, 4.0, 0.5]
    assert ranking.outline.ids == ["first", None, "third"]
    assert ranking.outline.rules == AuctionRules(slots=2)


def test_a_ranking_is_scored_as_its_rows_are(small_scorer: Any) -> None:
    scores = small_scorer.rank(parse(GOOD, FORM, Limits(), RULES).raw)
    np.testing.assert_allclose(scores["pctr"], [pctr_of(row) for row in rows_of(GOOD)], rtol=1e-5)


def test_the_answer_is_the_auction_of_the_probabilities(small_scorer: Any) -> None:
    ranking = parse(GOOD, FORM, Limits(), RULES)
    scores = small_scorer.rank(ranking.raw)
    outline = ranking.outline
    outcome = hold(scores["pctr"], outline.bids, outline.rules)
    judged = Judged(scores["pctr"], scores["logit"], [Source.MODEL] * 3)
    body = answer(outline, judged, outcome, digest="d")
    p = [pctr_of(row) for row in rows_of(GOOD)]
    worth = [1000 * p[0] * 1.0, 1000 * p[1] * 4.0, 1000 * p[2] * 0.5]
    best = sorted(range(3), key=lambda i: -worth[i])
    assert [shown["candidate"] for shown in body["ranked"]] == best[:2]
    assert [shown["id"] for shown in body["ranked"]] == [GOOD["candidates"][i].get("id") for i in best[:2]]
    np.testing.assert_allclose(body["ranked"][0]["price"], worth[best[1]] / (1000 * p[best[0]]), rtol=1e-4)
    assert (body["request_id"], body["bundle_digest"]) == ("r1", "d")


def test_the_rules_of_the_house_hold_where_a_request_names_none() -> None:
    house = AuctionRules(slots=5, pricing=Pricing.FIRST, reserve=2.0)
    request = {k: v for k, v in GOOD.items() if k != "slots"}
    assert parse(request, FORM, Limits(), house).outline.rules == house
    named = parse({**request, "pricing": "second"}, FORM, Limits(), house)
    assert named.outline.rules == AuctionRules(slots=5, pricing=Pricing.SECOND, reserve=2.0)


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        ([], MalformedRequest, "must be an object with `candidates`"),
        ({"user": {}}, MalformedRequest, "must be an object with `candidates`"),
        (broken("usr", value={}), MalformedRequest, "unknown key `usr`; a ranking has candidates, context"),
        (broken("user", value=[]), MalformedRequest, "`user` must be an object of fields; got list"),
        (broken("request_id", value=7), MalformedRequest, "`request_id` must be a string; got int"),
        (broken("candidates", value={}), MalformedRequest, "`candidates` must be a list of objects; got dict"),
        (broken("candidates", value=[]), RequestError, "`candidates` is empty"),
        (broken("candidates", 1, value=3), RequestError, "candidate 1: must be an object; got int"),
        (broken("candidates", 1, "user_id", value="u"), RequestError,
         "candidate 1: field `user_id` is the same for all candidates; give it once"),
        (broken("candidates", 1, "position", value=2), RequestError,
         "candidate 1: field `position` is what a ranking decides; leave it out"),
        (broken("user", "ad_id", value="a1"), RequestError, "`user`: field `ad_id` belongs to a candidate"),
        (broken("user", "device", value="desk"), RequestError, "field `device` is given under `user` and under"),
        (broken("user", "returning", value=3), RequestError,
         "user and context: field `returning`: must be true or false; got 3"),
        (broken("user", "nme", value=3), RequestError, "user and context: field `nme` is unknown"),
        (broken("candidates", 2, "price", value=-1), RequestError,
         "candidate 2, field `price`: must lie in 0 to 1000; got -1"),
        (broken("candidates", 2, "ad_id", value=None), RequestError,
         "candidate 2, field `ad_id`: is required and has no default"),
        (broken("candidates", 0, "id", value=3), RequestError, "candidate 0: `id` must be a string; got int"),
        (broken("candidates", 1, value={"ad_id": "a1"}), RequestError, "candidate 1: `bid` is missing"),
        (broken("candidates", 1, "bid", value=-1), RequestError, "`bid` must be a number of 0 to 1e+15; got -1"),
        (broken("candidates", 1, "bid", value=True), RequestError, "of 0 to 1e+15; got True"),
        (broken("candidates", 1, "bid", value="9"), RequestError, "of 0 to 1e+15; got '9'"),
        (broken("slots", value=0), RequestError, "`slots`: Input should be greater than or equal to 1; got 0"),
        (broken("pricing", value="third"), RequestError, "`pricing`: Input should be 'first' or 'second'; got 'third'"),
        (broken("reserve", value=-2), RequestError, "`reserve`: Input should be greater than or equal to 0; got -2"),
    ],
)  # fmt: skip
def test_a_broken_ranking_is_refused_in_words(request_: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        parse(request_, FORM, Limits(), RULES)
    assert words in str(caught.value)


def test_too_many_candidates_are_refused() -> None:
    with pytest.raises(RequestTooLarge, match="3 candidates, the limit is 2"):
        parse(GOOD, FORM, Limits(max_rows=2), RULES)


def test_ablation_tells_what_each_field_adds(small_scorer: Any) -> None:
    ranking = parse(GOOD, FORM, Limits(), RULES)
    found = ablation(ranking.raw, FORM.shared, [2, 0], CONTRACT, small_scorer.predict)
    rows = rows_of(GOOD)
    for at, reasons in zip([2, 0], found, strict=True):
        whole = logit_of(rows[at])
        assert "position" not in reasons
        assert set(reasons) == set(CONTRACT.inputs) - {"position"}
        for name, difference in reasons.items():
            # A required field has no default: leaving it out means a value nobody knows.
            without = {k: v for k, v in rows[at].items() if k != name}
            if name == "ad_id":
                without["ad_id"] = ""
            np.testing.assert_allclose(difference, whole - logit_of(without), atol=1e-5)
    assert found[1]["returning"] == pytest.approx(0.5, abs=1e-5)
    assert found[1]["price"] == pytest.approx(0.015, abs=1e-5)


class RowsOnly:
    """A scorer of an older bundle: it knows rows, not requests."""

    ranks = False

    def __init__(self, scorer: Any) -> None:
        self.contract, self.digest, self.predict = scorer.contract, scorer.digest, scorer.predict


class Served:
    """The ranker over one scorer, with its counters."""

    def __init__(self, scorer: Any) -> None:
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", metrics=Metrics(self.registry))
        self.model.swap(scorer, "7")
        self.ranker = Ranker(self.model, Scheduler(self.model, Lanes(0)))

    def ranked(self, explain: bool = False) -> list[dict[str, Any]]:
        answer = asyncio.run(self.ranker.answer(orjson.dumps(GOOD), None, explain=explain))
        found: list[dict[str, Any]] = orjson.loads(answer.body)["ranked"]
        return found


def test_a_bundle_that_knows_only_rows_ranks_alike(small_scorer: Any) -> None:
    assert small_scorer.ranks, "the other form is what is tested against"
    assert Served(RowsOnly(small_scorer)).ranked(explain=True) == Served(small_scorer).ranked(explain=True)


def test_a_ranking_counts_its_candidates(small_scorer: Any) -> None:
    served = Served(small_scorer)
    served.ranked()
    labels = {"model_name": "small"}
    assert served.registry.get_sample_value("clickmill_predictions_total", labels) == 3
    assert served.registry.get_sample_value("clickmill_request_candidates_sum", labels) == 3


def test_only_an_explained_ranking_says_why(small_scorer: Any) -> None:
    served = Served(small_scorer)
    assert all("logit_by_field" not in shown for shown in served.ranked())
    assert all(len(shown["logit_by_field"]) == 8 for shown in served.ranked(explain=True))


def test_a_position_that_predictions_require_is_the_contracts_default_in_a_ranking() -> None:
    fields = {
        **CONTRACT.fields,
        "position": CONTRACT.fields["position"].model_copy(update={"required": True}),
    }
    form = RankingForm.of(CONTRACT.model_copy(update={"fields": fields}))
    assert parse(GOOD, form, Limits(), RULES).raw["position"].tolist() == [1, 1, 1]
