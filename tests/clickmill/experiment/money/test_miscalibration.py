"""The cost of wrong probabilities: worked by hand on one request, laws on a market, and the page that shows it."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from clickmill.auction import AuctionRules, Pricing
from clickmill.command.app import app
from clickmill.data.world import Competition, WorldConfig, competition
from clickmill.errors import UndefinedMetric, UsageError
from clickmill.experiment.money import ErrorKind, baseline, curve, distorted

# Two requests with the same two ads; ad 0 is worth 40 per thousand seen, ad 1 36. One slot.
HAND = Competition(
    time_us=np.zeros(2, np.int64),
    user=np.zeros(2, np.int64),
    slots=np.ones(2, np.int64),
    ad=np.array([[0, 1], [0, 1]]),
    advertiser=np.array([[0, 1], [0, 1]]),
    bid=np.array([[2.0, 1.0], [2.0, 1.0]]),
    relevance=np.array([[0.02, 0.036], [0.02, 0.036]]),
    examination=np.array([1.0]),
    starts_h=np.array([-1.0, -1.0]),
)


@pytest.fixture(scope="module")
def market() -> Competition:
    return competition(WorldConfig(impressions=6000, days=1, n_users=500, n_ads=200, n_advertisers=20))


def test_what_a_wrong_winner_costs_worked_by_hand():
    # Log-odds flattened far enough turn the order: both pCTR meet near 0.027, so ad 0 wins by its bid and pays what ad 1 seems worth.
    (flat,) = curve(HAND, ErrorKind.SLOPE, [-1.0], AuctionRules())
    middle = np.sqrt(0.02 / 0.98 * 0.036 / 0.964)
    p = middle / (1 + middle)
    # True winner: ad 0 pays 36 / 20 a click, revenue 0.02 x 1.8. Flat: ad 0 pays (p x 1) / p = 1 a click, revenue 0.02.
    assert distorted(HAND.relevance, HAND.ad, ErrorKind.SLOPE, -1.0) == pytest.approx(np.full((2, 2), p))
    assert flat.revenue.value == pytest.approx(1 - 0.02 * 1 / (0.02 * 1.8))
    assert flat.value.value == pytest.approx(0.0)
    # Surplus: 0.04 - 0.036 by the truth, 0.04 - 0.02 when flat.
    assert flat.surplus.value == pytest.approx(1 - 0.02 / 0.004)


def test_what_a_buyer_loses_worked_by_hand():
    # By the truth: ad 0 (40) beats 36 and earns 4, ad 1 (36) does not beat 40. With all 20 % too high ad 1 bids 43.2 and loses 4.
    (high,) = curve(HAND, ErrorKind.COMMON, [0.2], AuctionRules())
    assert high.buyer_profit.value == pytest.approx(1 - (4 - 4) / 4)
    assert high.buyer_spend == pytest.approx((36 + 40) / 36 - 1)
    # 20 % too low: ad 0 bids 32 and buys nothing.
    (low,) = curve(HAND, ErrorKind.COMMON, [-0.2], AuctionRules())
    assert low.buyer_profit.value == pytest.approx(1.0)
    assert low.buyer_spend == pytest.approx(-1.0)


def test_a_reserve_between_makes_a_common_error_dear():
    # Reserve 38: ad 0 is sold at it. 10 % too low it seems worth 36 and the slot stays empty.
    rules = AuctionRules(reserve=38)
    (low,) = curve(HAND, ErrorKind.COMMON, [-0.1], rules)
    assert low.revenue.value == pytest.approx(1.0)
    assert baseline(HAND, rules) == pytest.approx(
        {"revenue": 38e3, "value": 40e3, "surplus": 2e3, "sold": 1.0}
    )


def test_first_prices_leave_advertisers_nothing_to_lose(market):
    rules = AuctionRules(slots=5, pricing=Pricing.FIRST)
    (found,) = curve(market, ErrorKind.BY_AD, [0.2], rules)
    assert found.surplus is None
    assert found.revenue.value == pytest.approx(found.value.value)
    assert found.revenue.low > 0


def test_no_error_costs_nothing_and_a_common_one_nothing_without_a_reserve(market):
    rules = AuctionRules(slots=5)
    for kind in ErrorKind:
        (none,) = curve(market, kind, [0.0], rules)
        for cost in (none.revenue, none.value, none.surplus, none.buyer_profit):
            assert cost.value == pytest.approx(0.0, abs=1e-9)
    for found in curve(market, ErrorKind.COMMON, [-0.5, 0.2], rules):
        # Above, a pCTR may meet 1 and its factor with it.
        assert abs(found.revenue.value) < 1e-3
        assert found.buyer_profit.value > 0.01


def test_losses_of_value_and_profit_grow_faster_than_the_error(market):
    small, large = curve(market, ErrorKind.BY_AD, [0.1, 0.4], AuctionRules(slots=5))
    for name in ("value", "buyer_profit"):
        one, four = getattr(small, name), getattr(large, name)
        assert 0 < one.low <= one.high < four.low
        assert four.value > 6 * one.value  # the square would be 16


def test_factors_by_ad_are_calibrated_on_the_whole():
    ad = np.arange(200_000)[:, None]
    wrong = distorted(np.full((200_000, 1), 0.01), ad, ErrorKind.BY_AD, 0.3, seed=1)
    assert wrong.mean() == pytest.approx(0.01, rel=5e-3)
    assert np.log(wrong).std() == pytest.approx(0.3, rel=2e-2)


def test_what_has_no_meaning_says_so(market):
    with pytest.raises(UsageError, match="above -1"):
        curve(market, ErrorKind.COMMON, [-1.0], AuctionRules())
    with pytest.raises(UsageError, match="a standard deviation, at least 0"):
        curve(market, ErrorKind.BY_AD, [-0.1], AuctionRules())
    with pytest.raises(UndefinedMetric, match="nothing is sold at a reserve of 1e\\+09"):
        curve(market, ErrorKind.COMMON, [0.1], AuctionRules(reserve=1e9))


def test_everybody_who_competed_is_there_once(market):
    assert (market.slots.sum(), market.ad.shape) == (6000, (len(market), 12))
    for row in range(20):
        sold = market.bid[row] > 0
        assert len(set(market.ad[row][sold])) == sold.sum() == len(set(market.ad[row]))
    assert (np.diff(market.time_us) >= 0).all()


def test_the_command_writes_a_page_that_loads_nothing(tmp_path):
    page = tmp_path / "deep" / "page.html"
    found = CliRunner().invoke(
        app, ["auction", "miscalibration", "--impressions", "4000", "--pricing", "first", "--out", str(page)]
    )
    assert found.exit_code == 0, found.output
    assert re.search(r"common \+10 % +buyer's profit -\d", found.stdout)
    text = page.read_text()
    assert "What a wrong click probability costs" in text
    assert "none kept" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
