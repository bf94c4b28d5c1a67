"""Auctions of many requests, VCG prices, earnings and pacing: against one request at a time, hand-made numbers and what must hold."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clickmill.auction import (
    AuctionRules,
    DualPacing,
    Pricing,
    Throttling,
    expected,
    hold,
    hold_many,
    vcg,
)
from clickmill.errors import DataError

shapes = st.tuples(st.integers(1, 6), st.integers(1, 8))
SEEN = np.array([1.0, 0.6, 0.5, 0.2])


@st.composite
def markets(draw):
    shape = draw(shapes)
    pctr = draw(arrays.arrays(float, shape, elements=st.floats(0, 1)))
    bid = draw(arrays.arrays(float, shape, elements=st.floats(0, 50)))
    return pctr, bid


sane = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 20)), min_size=2, max_size=8).map(
    lambda pairs: tuple(np.array(column)[None, :] for column in zip(*pairs, strict=True))
)


@given(markets(), st.integers(1, 9), st.floats(0, 5000), st.sampled_from(Pricing), st.randoms())
def test_many_requests_are_sold_as_each_would_be_alone(market, slots, reserve, pricing, random):
    pctr, bid = market
    room = np.array([random.randint(0, slots) for _ in pctr])
    rules = AuctionRules(slots=slots, reserve=reserve, pricing=pricing)
    sold = hold_many(pctr, bid, rules, slots=room)
    for row in range(len(pctr)):
        alone = hold(pctr[row], bid[row], rules.model_copy(update={"slots": max(int(room[row]), 1)}))
        n = 0 if room[row] == 0 else len(alone.candidates)
        assert sold.candidate[row, :n].tolist() == alone.candidates[:n].tolist()
        assert (sold.candidate[row, n:] == -1).all()
        np.testing.assert_allclose(sold.price[row, :n], alone.price[:n], rtol=1e-12)
        np.testing.assert_allclose(sold.ecpm[row, :n], alone.ecpm[:n], rtol=1e-12)
        assert not sold.price[row, n:].any()


def test_prices_and_earnings_worked_by_hand():
    # eCPM 40, 30, 10; two slots seen with 1 and 0.5.
    pctr, bid = np.array([[0.02, 0.03, 0.01]]), np.array([[2.0, 1.0, 1.0]])
    rules = AuctionRules(slots=2)
    second = hold_many(pctr, bid, rules)
    assert second.candidate.tolist() == [[0, 1]]
    np.testing.assert_allclose(second.price, [[30 / 20, 10 / 30]])
    # Slot 1 owes (1 - 0.5) x 30 + 0.5 x 10 = 20 per thousand seen, for 20 clicks; slot 2 owes 0.5 x 10 for 15.
    honest = vcg(pctr, bid, rules, SEEN[[0, 2]])
    np.testing.assert_allclose(honest.price, [[1.0, 5 / 15]])
    earned = expected(second, pctr, bid, SEEN[[0, 2]])
    np.testing.assert_allclose(earned.revenue, [0.02 * 1.5 + 0.5 * 0.03 / 3])
    np.testing.assert_allclose(earned.value, [0.02 * 2 + 0.5 * 0.03])
    np.testing.assert_allclose(earned.clicks, [0.02 + 0.015])
    np.testing.assert_allclose(earned.surplus, earned.value - earned.revenue)


def test_a_reserve_prices_the_last_slot_that_is_sold():
    # One of two slots is sold: its holder pays the reserve for all it is seen.
    sold = vcg(np.array([[0.02, 0.01]]), np.array([[2.0, 1.0]]), AuctionRules(slots=2, reserve=25), SEEN)
    assert sold.candidate.tolist() == [[0, -1]]
    np.testing.assert_allclose(sold.price, [[25 / 20, 0]])


@given(sane, st.integers(1, 4), st.floats(0, 2000))
def test_vcg_never_costs_more_than_second_price_nor_less_than_the_reserve(market, slots, reserve):
    pctr, bid = market
    rules = AuctionRules(slots=slots, reserve=reserve)
    second, honest = hold_many(pctr, bid, rules), vcg(pctr, bid, rules, SEEN)
    assert (second.candidate == honest.candidate).all()
    assert (honest.price <= second.price * (1 + 1e-9)).all()
    assert (1000 * honest.of(pctr) * honest.price >= reserve * honest.shown * (1 - 1e-9) - 1e-300).all()


@given(sane, st.integers(1, 4), st.floats(0, 200), st.floats(0, 5), st.integers(0, 7))
def test_under_vcg_no_bid_earns_more_than_the_honest_one(market, slots, reserve, factor, who):
    pctr, worth = market
    who %= pctr.shape[1]
    rules = AuctionRules(slots=slots, reserve=reserve)
    bent = worth.copy()
    bent[0, who] *= factor

    def gain(bid):
        sold = vcg(pctr, bid, rules, SEEN)
        mine = sold.candidate[0] == who
        return float((SEEN[: mine.size] * mine * pctr[0, who] * (worth[0, who] - sold.price[0])).sum())

    assert gain(bent) <= gain(worth) + 1e-9


@given(sane, st.integers(1, 4), st.floats(1.0, 10), st.integers(0, 7), st.sampled_from(Pricing))
def test_a_higher_bid_never_loses_places(market, slots, factor, who, pricing):
    pctr, bid = market
    who %= pctr.shape[1]
    louder = bid.copy()
    louder[0, who] *= factor
    rules = AuctionRules(slots=slots, pricing=pricing)

    def place(bids):
        (at,) = np.nonzero(hold_many(pctr, bids, rules).candidate[0] == who)
        return at[0] if len(at) else slots

    assert place(louder) <= place(bid)


@given(sane, st.integers(1, 4), st.floats(0, 0.999))
def test_a_common_error_changes_neither_order_nor_second_prices_without_a_reserve(market, slots, factor):
    pctr, bid = market
    assume(factor > 1e-3)
    rules = AuctionRules(slots=slots)
    right, wrong = hold_many(pctr, bid, rules), hold_many(pctr * factor, bid, rules)
    np.testing.assert_allclose(wrong.ecpm, right.ecpm * factor, rtol=1e-9)
    np.testing.assert_allclose(wrong.price, right.price, rtol=1e-9)


@pytest.mark.parametrize(
    ("pctr", "bid", "slots", "words"),
    [
        ([[0.1, 1.2]], [[1, 1]], None, "request 0, candidate 1: pctr must lie in 0 to 1; got 1.2"),
        (
            [[0.1], [0.1]],
            [[1], [-1]],
            None,
            "request 1, candidate 0: bid must be a finite amount of at least 0; got -1",
        ),
        ([0.1], [1], None, "need \\(requests, candidates\\) of each"),
        ([[0.1]], [[1]], [3], "slots must be one number in 0 to 2 per request"),
    ],
)
def test_broken_requests_are_named(pctr, bid, slots, words):
    with pytest.raises(DataError, match=words):
        hold_many(
            np.array(pctr),
            np.array(bid),
            AuctionRules(slots=2),
            slots=None if slots is None else np.array(slots),
        )


@pytest.mark.parametrize("curve", [[1.0], [0.5, 0.6], [1.0, 0.0], [1.2, 1.0]])
def test_a_curve_of_attention_must_fall(curve):
    with pytest.raises(DataError, match="examination must be 2 chances in \\(0, 1\\], not rising"):
        vcg(np.full((1, 3), 0.1), np.ones((1, 3)), AuctionRules(slots=2), np.array(curve))


def test_the_price_of_money_moves_as_worked_by_hand():
    pacing = DualPacing(step=0.5)
    state = pacing.begin(np.array([100.0, 100.0, 100.0]))
    state = pacing.after(state, np.array([30.0, 5.0, 0.0]), 0.1)  # planned: 10
    np.testing.assert_allclose(state.mu, [0.5 * 2, 0.0, 0.0])
    np.testing.assert_allclose(state.shaded(np.array([4.0, 4.0, 4.0])), [2.0, 4.0, 4.0])
    state = pacing.after(state, np.array([5.0, 95.0, 0.0]), 0.1)
    np.testing.assert_allclose(state.mu, [1.0 - 0.25, 0.5 * 8.5, 0.0])
    assert state.active.tolist() == [True, False, True]
    assert state.shaded(np.ones(3))[1] == 0.0


def test_the_chance_of_taking_part_moves_as_worked_by_hand():
    pacing = Throttling(rate=0.1, first=0.5)
    state = pacing.after(pacing.begin(np.array([10.0, 10.0])), np.array([3.0, 1.0]), due=0.2)
    np.testing.assert_allclose(state.chance, [0.45, 0.55])


def day(state, step, spend, periods=200):
    """A day of `periods` equal periods in which a campaign spends `spend(state)`."""
    for period in range(periods):
        spent = np.where(state.active, spend(state), 0.0)
        state = step(state, np.minimum(spent, state.budget - state.spent), period)
    return state


@given(st.lists(st.floats(0.05, 5), min_size=1, max_size=5))
def test_budgets_that_bind_are_spent_by_the_end_and_not_before(tightness):
    # Unpaced a campaign spends 1 / tightness of its budget over the day; spend falls with the square of a shaded bid.
    budget = 1000 * np.array(tightness)
    dual = DualPacing()
    ended = day(
        dual.begin(budget), lambda s, x, _: dual.after(s, x, 1 / 200), lambda s: 5.0 / (1 + s.mu) ** 2
    )
    throttling = Throttling(rate=0.05)
    dropped = day(
        throttling.begin(budget),
        lambda s, x, t: throttling.after(s, x, (t + 1) / 200),
        lambda s: 5.0 * s.chance,
    )
    for state in (ended, dropped):
        assert (state.spent <= budget).all()
        binding = budget < 900
        assert (state.spent[binding] > 0.9 * budget[binding]).all()
    assert (ended.mu[budget > 1100] == 0).all()


def test_broken_budgets_are_named():
    with pytest.raises(DataError, match="campaign 1: a budget must be a finite amount above 0"):
        DualPacing().begin(np.array([1.0, 0.0]))
    state = DualPacing().begin(np.array([1.0]))
    with pytest.raises(DataError, match="spend of a period must be at least 0"):
        DualPacing().after(state, np.array([-1.0]), 0.1)
