"""The auction against examples worked by hand and the properties an auction must have."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from clickmill.auction import AuctionRules, Pricing, ecpm, hold
from clickmill.errors import DataError

probability = st.floats(1e-4, 1.0)
amount = st.floats(1e-3, 100.0)
markets = st.lists(st.tuples(probability, amount), min_size=1, max_size=12).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True))
)


def test_ecpm_is_a_thousand_impressions_worth_of_clicks():
    assert ecpm(np.array([0.02, 0.5]), np.array([1.5, 0.0])).tolist() == [30.0, 0.0]


def test_second_price_worked_by_hand():
    # eCPM 30, 20, 45, 8: the third leads and pays what beats 30, and so on; the fourth gets no slot but prices the third place.
    pctr, bid = np.array([0.02, 0.04, 0.015, 0.008]), np.array([1.5, 0.5, 3.0, 1.0])
    outcome = hold(pctr, bid, AuctionRules(slots=3))
    assert outcome.candidates.tolist() == [2, 0, 1]
    np.testing.assert_allclose(outcome.ecpm, [45, 30, 20])
    np.testing.assert_allclose(outcome.price, [30 / 15, 20 / 20, 8 / 40])


def test_first_price_is_the_bid():
    pctr, bid = np.array([0.02, 0.04]), np.array([1.5, 0.5])
    assert hold(pctr, bid, AuctionRules(slots=2, pricing=Pricing.FIRST)).price.tolist() == [1.5, 0.5]


def test_the_reserve_leaves_slots_empty_and_prices_the_last():
    pctr, bid = np.array([0.02, 0.04, 0.01]), np.array([1.5, 0.5, 0.1])
    outcome = hold(pctr, bid, AuctionRules(slots=3, reserve=10.0))
    assert outcome.candidates.tolist() == [0, 1]
    np.testing.assert_allclose(outcome.price, [20 / 20, 10 / 40])


def test_equal_candidates_keep_their_order_and_pay_their_bid():
    outcome = hold(np.full(3, 0.1), np.full(3, 2.0), AuctionRules(slots=2))
    assert outcome.candidates.tolist() == [0, 1]
    np.testing.assert_allclose(outcome.price, [2.0, 2.0])


@pytest.mark.parametrize(("pctr", "bid"), [([], []), ([0.0], [5.0]), ([0.5], [0.0])])
def test_nothing_worth_showing_shows_nothing(pctr, bid):
    outcome = hold(np.array(pctr), np.array(bid), AuctionRules())
    assert len(outcome.candidates) == len(outcome.ecpm) == len(outcome.price) == 0


@given(markets, st.integers(1, 14), st.floats(0, 2000), st.sampled_from(Pricing))
def test_nobody_pays_more_than_the_bid_or_less_than_the_reserve(market, slots, reserve, pricing):
    pctr, bid = market
    outcome = hold(pctr, bid, AuctionRules(slots=slots, reserve=reserve, pricing=pricing))
    shown = outcome.candidates
    assert len(shown) == min(slots, int((1000 * pctr * bid >= reserve).sum()))
    assert (outcome.price <= bid[shown]).all()
    assert (1000 * pctr[shown] * outcome.price >= reserve * (1 - 1e-9) - 1e-300).all()
    assert (np.diff(outcome.ecpm) <= 0).all()


def test_another_order_leaves_prices_as_honest_as_it_can():
    # eCPM 100, 80, 70, 40, ranked 40, 100, 70, 80: the lifted pay their bids, who is behind nobody worth more pays what beats the best of those.
    pctr, bid = np.full(4, 0.1), np.array([1.0, 0.8, 0.7, 0.4])
    outcome = hold(pctr, bid, AuctionRules(slots=3), np.array([3.0, 1.0, 2.0, 4.0]))
    assert outcome.candidates.tolist() == [3, 0, 2]
    np.testing.assert_allclose(outcome.ecpm, [40, 100, 70])
    np.testing.assert_allclose(outcome.price, [0.4, 0.8, 0.7])


@given(
    markets,
    st.integers(1, 14),
    st.floats(0, 2000),
    st.sampled_from(Pricing),
    st.randoms(use_true_random=False),
)
def test_in_any_order_nobody_pays_more_than_the_bid_or_less_than_the_reserve_and_the_ecpm_is_one_of_them(
    market, slots, reserve, pricing, random
):
    pctr, bid = market
    rules, score = (
        AuctionRules(slots=slots, reserve=reserve, pricing=pricing),
        np.array([random.random() for _ in pctr]),
    )
    outcome = hold(pctr, bid, rules, score)
    shown = outcome.candidates
    assert len(shown) == min(slots, int((1000 * pctr * bid >= reserve).sum()))
    assert (np.diff(score[shown]) <= 0).all()
    assert (outcome.price <= bid[shown]).all()
    assert (1000 * pctr[shown] * outcome.price >= reserve * (1 - 1e-9) - 1e-300).all()
    plain, same = hold(pctr, bid, rules), hold(pctr, bid, rules, 1000 * pctr * bid)
    assert plain.candidates.tolist() == same.candidates.tolist()
    assert plain.price.tolist() == same.price.tolist()


@given(markets, st.floats(0, 50), st.floats(1.01, 10))
def test_with_one_slot_the_winner_cannot_lower_the_price_by_bidding_otherwise(market, reserve, factor):
    pctr, bid = market
    rules = AuctionRules(reserve=reserve)
    honest = hold(pctr, bid, rules)
    assume(len(honest.candidates))
    winner = honest.candidates[0]
    louder = bid.copy()
    louder[winner] *= factor
    again = hold(pctr, louder, rules)
    assert again.candidates[0] == winner
    # Vickrey: the price is the others', unless rounding met the bid.
    np.testing.assert_allclose(again.price, honest.price, rtol=1e-9)


@given(markets, st.integers(1, 14))
def test_a_seller_earns_no_less_at_first_prices_for_the_same_bids(market, slots):
    pctr, bid = market
    earned = {
        pricing: float(
            (
                pctr[(o := hold(pctr, bid, AuctionRules(slots=slots, pricing=pricing))).candidates] * o.price
            ).sum()
        )
        for pricing in Pricing
    }
    assert earned[Pricing.FIRST] >= earned[Pricing.SECOND] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("pctr", "bid", "words"),
    [
        ([0.1, 1.2], [1, 1], "candidate 1: pctr must lie in 0 to 1; got 1.2"),
        ([0.1, np.nan], [1, 1], "candidate 1: pctr must lie in 0 to 1; got nan"),
        ([0.1], [-1], "candidate 0: bid must be a finite amount of at least 0; got -1"),
        ([0.1], [np.inf], "candidate 0: bid must be a finite amount of at least 0; got inf"),
        ([0.1, 0.2], [1], "need one of each per candidate"),
    ],
)
def test_broken_candidates_are_named(pctr, bid, words):
    with pytest.raises(DataError, match=words):
        hold(np.array(pctr), np.array(bid), AuctionRules())


def test_a_reserve_below_zero_is_refused():
    with pytest.raises(ValidationError, match="reserve"):
        AuctionRules(reserve=-1)
