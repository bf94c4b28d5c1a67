"""A ranker that tries hardly known ads: order drawn, pCTR and price the model's, chances logged, money kept within the budget."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from clickmill.auction import AuctionRules, Pricing
from clickmill.bundle import Priors
from clickmill.command.app import app
from clickmill.data.world import WorldConfig, competition
from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec, assign
from clickmill.experiment.exploration import ColdAdSettings
from clickmill.experiment.off_policy import LoggedRows, Method, evaluate
from serving.arms import Arms
from serving.exploring import PERIOD_SECONDS, Exploring
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.ranker_settings import RankerSettings
from serving.ranking import HOUSE_RULES, Outline
from serving.scheduler import Scheduler
from tests.serving.small_bundle import PRIORS
from tests.serving.test_prediction_log import logged_rows, served_with_log

KNOWN = replace(PRIORS, impressions={"a1": 9000.0})
"""a1 is known by 540 clicks; of a2 the training log never held an impression."""
BOLD = ColdAdSettings(explorer="ucb", width=5.0, cost=0.4)
"""Lifts a new ad over whatever it meets here."""
NOW = datetime(2026, 3, 3, tzinfo=UTC)


def ask(request_id: str | None = "r1", user: str = "u1", **more: Any) -> bytes:
    candidates = [{"id": "known", "ad_id": "a1", "bid": 3.0}, {"id": "new", "ad_id": "a2", "bid": 3.0}]
    given = {"request_id": request_id, "user": {"user_id": user}, "candidates": candidates, "slots": 1}
    return orjson.dumps({name: value for name, value in (given | more).items() if value is not None})


def ranker_of(model: BundleModel, exploration: ColdAdSettings | None, arms: Arms | None = None) -> Ranker:
    return Ranker(model, Scheduler(model, Lanes(0)), RankerSettings(exploration=exploration), arms=arms)


def ranked(ranker: Ranker, body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(asyncio.run(ranker.answer(body, None)).body)["ranked"]
    return found


def test_a_new_ad_is_shown_and_pctr_and_prices_stay_the_models(small_scorer: Any, tmp_path: Path) -> None:
    model = served_with_log(small_scorer, tmp_path)
    model.swap(small_scorer, "8", KNOWN)
    honest = {one["id"]: one for one in ranked(ranker_of(model, None), ask("plain", slots=2))}
    ranker = ranker_of(model, BOLD)
    found = {one["id"]: one for n in range(200) for one in ranked(ranker, ask(f"r{n}"))}
    assert set(found) == {"known", "new"}, "a tenth of the rankings explores in the first minute"
    for name in found:
        assert (found[name]["pctr"], found[name]["ecpm"]) == (honest[name]["pctr"], honest[name]["ecpm"])
    # The known ad pays what it would without exploring; the new one could not have outbid it and pays its bid.
    assert found["known"]["price"] == honest["known"]["price"] < 3.0
    assert found["new"]["price"] == 3.0

    rows = logged_rows(model, tmp_path)
    assert {(row["slot"], row["propensity"], row["impression_id"]) for row in rows[:2]} == {
        (None, None, None)
    }
    of_shown = [row for row in rows if row["slot"] is not None]
    assert len(of_shown) == 200
    chances = {row["candidate"]: (row["slot"], row["propensity"], row["greedy"]) for row in of_shown}
    assert chances == {0: (1, pytest.approx(0.9), 1.0), 1: (1, pytest.approx(0.1), 0.0)}
    assert [row["impression_id"] for row in of_shown] == [
        f"{row['request_id']}:{row['candidate']}" for row in of_shown
    ]


def test_what_is_logged_tells_what_not_exploring_would_have_earned(small_scorer: Any, tmp_path: Path) -> None:
    """An endpoint's own log and the clicks on it, through the command."""
    model = served_with_log(small_scorer, tmp_path / "first")
    model.swap(small_scorer, "8", KNOWN)
    ranker = ranker_of(model, ColdAdSettings(explorer="thompson", width=2.0))
    for number in range(400):
        ranked(ranker, ask(f"r{number}"))
    logged_rows(model, tmp_path / "first")
    (file,) = (tmp_path / "first").rglob("*.parquet")
    table = pq.read_table(file)
    yesterday = pc.subtract(table["time"].cast(pa.int64()), 86_400_000_000).cast(
        table.schema.field("time").type
    )
    table = table.set_column(table.column_names.index("time"), "time", yesterday)
    (tmp_path / "log").mkdir()
    pq.write_table(table, tmp_path / "log" / "part.parquet")
    shown = table.filter(pc.is_valid(table["impression_id"])).to_pylist()
    clicked = shown[::3]
    clicks = pa.table(
        {
            "impression_id": [row["impression_id"] for row in clicked],
            "click_time": [row["time"] for row in clicked],
        }
    )
    pq.write_table(clicks, tmp_path / "clicks.parquet")
    told = CliRunner().invoke(
        app,
        [
            "experiment",
            "off-policy",
            str(tmp_path / "log"),
            "--clicks",
            str(tmp_path / "clicks.parquet"),
            "--json",
        ],
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["greedy"]
    ids = {row["impression_id"] for row in clicked}
    by_hand = sum(row["greedy"] / row["propensity"] for row in shown if row["impression_id"] in ids) / 400
    assert found["estimates"]["ips"]["value"] == pytest.approx(by_hand)
    assert found["diagnostics"]["rows"] == found["diagnostics"]["clusters"] == 400


def test_who_asks_again_is_shown_the_same_at_every_replica(small_scorer: Any) -> None:
    def replica() -> list[str]:
        model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
        model.swap(small_scorer, "8", KNOWN)
        ranker = ranker_of(model, BOLD)
        return [ranked(ranker, ask(f"r{n % 50}"))[0]["id"] for n in range(100)]

    first = replica()
    assert first == replica()
    assert first[:50] == first[50:]
    assert set(first) == {"known", "new"}


def test_an_arm_explores_where_its_rules_say_so(small_scorer: Any, tmp_path: Path) -> None:
    spec = ExperimentSpec.model_validate(
        {
            "name": "try-new-ads",
            "arms": {"control": {}, "treatment": {"rules": {"exploration": BOLD.model_dump(mode="json")}}},
            "control": "control",
            "start": "2026-03-02T00:00:00Z",
        }
    )
    model = served_with_log(small_scorer, tmp_path)
    model.swap(small_scorer, "8", KNOWN)
    ranker = ranker_of(model, None, Arms(spec, HOUSE_RULES, lambda: NOW))
    for number in range(150):
        ranked(ranker, ask(f"r{number}", f"u{number}"))
    rows = [row for row in logged_rows(model, tmp_path) if row["impression_id"]]
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in spec.arms}
    assert len(by_arm["control"]) + len(by_arm["treatment"]) == 150
    assert {row["propensity"] for row in by_arm["control"]} == {None}
    assert {row["candidate"] for row in by_arm["control"]} == {0}
    assert {row["candidate"] for row in by_arm["treatment"]} == {0, 1}
    assert all(row["propensity"] for row in by_arm["treatment"])
    assert all(assign(spec, row["request_id"].replace("r", "u"), NOW).arm == row["arm"] for row in rows)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"explorer": "boldly"},
            r"arms.treatment.rules: exploration.explorer: .*'greedy', 'thompson' or 'ucb'",
        ),
        ({"width": 0}, r"exploration.width: .*greater than 0 \(got 0\)"),
        ({"budget": 0.1}, "exploration.budget: Extra inputs are not permitted"),
    ],
)
def test_an_arm_whose_exploration_is_none_is_refused(wrong: dict[str, Any], words: str) -> None:
    arms = {"control": {}, "treatment": {"rules": {"exploration": wrong}}}
    spec = ExperimentSpec.model_validate({"name": "x", "arms": arms, "control": "control"})
    with pytest.raises(UsageError, match=words):
        Arms(spec, HOUSE_RULES)


def test_an_arm_may_be_left_out_where_the_house_explores() -> None:
    arms = {"control": {"rules": {"exploration": None}}, "treatment": {}}
    found = Arms(
        ExperimentSpec.model_validate({"name": "x", "arms": arms, "control": "control"}), HOUSE_RULES
    )
    assert (found.exploration_of("control", BOLD), found.exploration_of("treatment", BOLD)) == (None, BOLD)


class Counted:
    """An explorer without a model, its clock and its counters. The known ad has pCTR 0.2, the new one 0.1, both bid 1."""

    def __init__(
        self, settings: ColdAdSettings, priors: Any = KNOWN, pricing: Pricing = Pricing.FIRST
    ) -> None:
        self.rules = AuctionRules(pricing=pricing)
        self.now, self.number, self.registry = 0.0, 0, CollectorRegistry()
        self.exploring = Exploring(settings, Metrics(self.registry), "small", None, lambda: self.now)
        self.served: Any = SimpleNamespace(priors=priors)

    def rank(self, times: int) -> list[int]:
        """Which candidate each of so many rankings showed."""
        found = []
        for _ in range(times):
            self.number += 1
            ads = [{"ad_id": "a1"}, {"ad_id": "a2"}]
            asked = Outline(np.ones(2), [None, None], self.rules, f"r{self.number}", {}, ads)
            explored = self.exploring.sell(self.served, asked, np.array([0.2, 0.1]))
            self.exploring.count(explored)
            found.append(int(explored.sale.outcome.candidates[0]))
        return found

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(
            f"clickmill_exploration_{name}", {"model_name": "small", "arm": "", **labels}
        )
        assert found is not None
        return found


def test_who_has_given_up_too_much_stops_and_who_has_room_goes_on() -> None:
    careful = Counted(ColdAdSettings(explorer="ucb", width=5.0, cost=0.001))
    tried = sum(careful.rank(500))
    assert 20 < tried < 90, "a tenth, by the hash of the request"
    assert careful.value("rankings_total", outcome="changed") == tried
    assert careful.value("rankings_total", outcome="greedy") == 500 - tried
    assert careful.value("earned_total", measure="revenue") == pytest.approx(500 * 0.2)
    assert careful.value("given_up_total", measure="value") == pytest.approx(tried * 0.1)
    careful.now += PERIOD_SECONDS
    careful.rank(1)  # ends the minute: a tenth of the money at stake is far beyond a thousandth
    assert careful.value("share") == 0
    assert sum(careful.rank(300)) == 0

    bold = Counted(ColdAdSettings(explorer="ucb", width=5.0, cost=0.2))
    bold.rank(499)
    bold.now += PERIOD_SECONDS
    bold.rank(1)
    # Room for 0.2 x 2 x 500 x 0.2 less what is given up; each try costs 0.1 of a currency unit.
    given = bold.value("given_up_total", measure="revenue")
    assert bold.value("share") == pytest.approx(min(1.0, (0.2 * 200 - given) / (0.1 * 500)))


def test_over_many_minutes_what_is_given_up_stays_within_the_budget() -> None:
    one = Counted(ColdAdSettings(explorer="ucb", width=5.0, cost=0.02))
    for _ in range(40):
        one.rank(60)
        one.now += PERIOD_SECONDS
    # Half of the money of a ranking that explores is given up: 4 % of them may. The last minute is not answered for yet.
    for measure in ("revenue", "value"):
        earned, given_up = (one.value(name, measure=measure) for name in ("earned_total", "given_up_total"))
        assert 0.01 * earned <= given_up <= 0.02 * (earned + 60 * 0.2)


def test_what_costs_the_seller_nothing_is_held_to_what_it_costs_advertisers() -> None:
    # At second prices the next best pays what the best would have paid; of the value half is given up.
    one = Counted(ColdAdSettings(explorer="ucb", width=5.0, cost=0.05), pricing=Pricing.SECOND)
    one.rank(500)
    one.now += PERIOD_SECONDS
    one.rank(1)
    assert one.value("given_up_total", measure="revenue") == 0
    given = one.value("given_up_total", measure="value")
    tried = one.value("rankings_total", outcome="changed")
    assert given == pytest.approx(0.1 * tried)
    assert 0 < one.value("share") < 0.2


@pytest.mark.parametrize(
    ("priors", "outcome"),
    [
        (None, "untold"),
        (PRIORS, "untold"),
        (replace(KNOWN, ad_field=None), "untold"),
        (replace(KNOWN, impressions={"a1": 9000.0, "a2": 9000.0}), "all_known"),
    ],
)
def test_where_nothing_can_be_tried_the_ranking_is_as_ever(priors: Any, outcome: str) -> None:
    one = Counted(BOLD, priors)
    assert one.rank(50) == [0] * 50
    assert one.value("rankings_total", outcome=outcome) == 50
    assert one.value("share") == 0.1


def test_on_the_market_the_budget_holds_and_the_log_tells_what_not_exploring_would_have_got() -> None:
    """4,000 requests, a quarter of the ads new and underrated by half; what is given up and what is clicked by the market's own truth."""
    market = competition(
        WorldConfig(impressions=20_000, days=4, n_users=2000, n_ads=150, n_advertisers=20, seed=3)
    )
    new = np.flatnonzero(market.starts_h > 0)
    pctr = market.relevance * np.where(np.isin(market.ad, new), 0.5, 1.0)
    known = {str(ad): 1e6 for ad in range(len(market.starts_h)) if ad not in new}
    served: Any = SimpleNamespace(priors=Priors(0.05, "ad_id", dict.fromkeys(known, 0.05), impressions=known))
    now, cost = [0.0], 0.02
    explorer = Exploring(
        ColdAdSettings(width=1.0, cost=cost), Metrics(CollectorRegistry()), "m", None, lambda: now[0]
    )
    luck = np.random.default_rng(0)
    logged: list[tuple[int, bool, float, float]] = []
    greedy_clicks = revenue = given_up = value = value_lost = 0.0
    for number in range(4000):
        now[0] += PERIOD_SECONDS / 50
        bid, rules = market.bid[number], AuctionRules(slots=int(market.slots[number]))
        ads = [{"ad_id": str(ad)} for ad in market.ad[number]]
        asked = Outline(bid, [None] * len(bid), rules, f"market {number}", {}, ads)
        explored = explorer.sell(served, asked, pctr[number])
        explorer.count(explored)
        sale, seen = explored.sale, market.examination[: rules.slots]
        told = explored.chances(len(bid))
        for at, x in zip(sale.outcome.candidates, seen, strict=False):
            clicked = luck.random() < market.relevance[number, at] * x
            logged.append((number, clicked, told.propensity[at], told.greedy[at]))
        money, worth = (
            [float(seen[: len(each)] @ each) for each in found]
            for found in (
                [o.price * pctr[number][o.candidates] for o in (sale.plain, sale.outcome)],
                [bid[o.candidates] * pctr[number][o.candidates] for o in (sale.plain, sale.outcome)],
            )
        )
        revenue, given_up = revenue + money[0], given_up + money[0] - money[1]
        value, value_lost = value + worth[0], value_lost + worth[0] - worth[1]
        greedy = sale.plain.candidates
        greedy_clicks += float(seen[: len(greedy)] @ market.relevance[number, greedy])
    request, clicks, propensity, target = (np.array(column) for column in zip(*logged, strict=True))
    assert (target == 0).mean() > 0.01, "it did explore"
    assert given_up <= cost * revenue
    assert 0 < value_lost <= cost * value
    found = evaluate(LoggedRows.checked(clicks, propensity, target, cluster=request))
    weight = found.diagnostics.mean_weight
    assert weight.low <= 1.001
    assert weight.high >= 0.999
    estimate = found.estimates[Method.SNIPS]
    assert estimate.low <= greedy_clicks / len(logged) <= estimate.high
