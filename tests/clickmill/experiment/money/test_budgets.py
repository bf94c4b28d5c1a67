"""A day on short budgets: nobody overspends, pacing keeps money for the evening and buys more with it."""

import numpy as np
import pytest

from clickmill.auction import AuctionRules
from clickmill.data.world import Competition, WorldConfig, competition
from clickmill.errors import DataError
from clickmill.experiment.money import Pacing, budget_day

RULES = AuctionRules(slots=5)


@pytest.fixture(scope="module")
def market() -> Competition:
    return competition(
        WorldConfig(
            impressions=60_000, days=2, n_users=2000, n_ads=100, n_advertisers=10, target_ctr=0.15, seed=5
        )
    )


@pytest.fixture(scope="module")
def days(market):
    return {pacing: budget_day(market, pacing, RULES, tightness=0.4, seed=1) for pacing in Pacing}


def test_nobody_pays_more_than_the_budget(days):
    for day in days.values():
        assert (day.spent <= day.budget * (1 + 1e-12)).all()
        assert day.spend_by_quarter.sum() == pytest.approx(day.spent.sum())
        assert (day.free >= 0).all()
        assert (np.diff(day.active_by_quarter) <= 0).all()


def test_without_pacing_the_evening_is_empty_and_with_it_it_is_not(days):
    assert days[Pacing.NONE].out_at < 16
    assert days[Pacing.NONE].spend_by_quarter[80:].sum() < 0.05 * days[Pacing.NONE].spent.sum()
    for pacing in (Pacing.SHADING, Pacing.THROTTLING):
        day = days[pacing]
        assert day.spent.sum() > 0.85 * day.budget.sum()
        # 24 % of a day's traffic comes after 20:00.
        assert 0.12 < day.spend_by_quarter[80:].sum() / day.spent.sum() < 0.36


def test_shaded_bids_buy_more_for_the_money(days):
    assert days[Pacing.SHADING].worth_per_money > 1.1 * days[Pacing.NONE].worth_per_money


def test_budgets_that_nobody_reaches_change_nothing(market):
    free, shaded = (
        budget_day(market, pacing, RULES, tightness=100, seed=1) for pacing in (Pacing.NONE, Pacing.SHADING)
    )
    np.testing.assert_allclose(free.spent, shaded.spent)
    assert np.isnan(free.out_at)


def test_one_day_has_no_day_to_plan_by():
    one = competition(WorldConfig(impressions=1000, days=1, n_users=100, n_ads=60, n_advertisers=5))
    with pytest.raises(DataError, match=r"a market of two days and tightness above 0; got 1 days and 0\.4"):
        budget_day(one, Pacing.NONE, RULES)
