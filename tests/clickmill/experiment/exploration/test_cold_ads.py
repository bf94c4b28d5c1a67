"""One explored ranking: who is drawn, who is known, what it costs, and chances against counted draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.auction import AuctionRules, Pricing
from clickmill.experiment.exploration import MOST_DRAWN, ColdAdSettings, Explorer, contest, sell

SETTINGS = ColdAdSettings(width=1.0)
LUCKIEST, UNLUCKY = b"\xff" * MOST_DRAWN, b"\x00" * MOST_DRAWN


def test_what_a_bundle_has_seen_of_an_ad_narrows_what_is_unknown_of_it():
    pctr, bid = np.array([0.1, 0.1, 0.1, 0.1]), np.ones(4)
    found = contest(pctr, bid, np.array([0.0, 10.0, 20.0, 500.0]), AuctionRules(slots=4), SETTINGS)
    # 1 / (1 / 0.7^2 + 10 x 0.9) = 0.0906, its root 0.3009, times 1 - p; from 20 clicks on an ad is known.
    assert found.spread == pytest.approx([0.9 * 0.7, 0.9 * 0.3009, 0, 0], abs=1e-4)
    assert found.drawn.tolist() == [0, 1]
    assert found.centre == pytest.approx([math.log(100)] * 4)


def test_only_ads_that_could_be_shown_are_drawn_and_never_more_than_a_few():
    pctr, rules = np.array([0.2, 0.2, 0.001, 0.1]), AuctionRules(slots=2, reserve=10.0)
    # eCPM 200, 200, 1 (below the reserve) and 40, which the luckiest draw raises by exp(0.9 x 0.7 x 2.89) = 6.2, a tenth as wide by 1.2.
    bid = np.array([1.0, 1.0, 1.0, 0.4])
    assert contest(pctr, bid, np.zeros(4), rules, ColdAdSettings(width=0.1)).drawn.tolist() == [0, 1]
    assert contest(pctr, bid, np.zeros(4), rules, SETTINGS).drawn.tolist() == [0, 1, 3]
    many = contest(np.full(50, 0.1), np.arange(1.0, 51.0), np.zeros(50), rules, SETTINGS)
    assert many.drawn.tolist() == list(range(42, 50))
    assert contest(pctr, bid, np.full(4, 20.0), rules, SETTINGS) is None
    assert contest(pctr[:0], bid[:0], np.zeros(0), rules, SETTINGS) is None


def test_a_lifted_ad_pays_its_bid_and_the_others_what_they_would_have_paid():
    # eCPM 100, 80, 70 and a new ad of 40 that is drawn ahead of all.
    pctr, bid, clicks = (
        np.array([0.1, 0.1, 0.1, 0.1]),
        np.array([1.0, 0.8, 0.7, 0.4]),
        np.array([99.0, 99, 99, 0]),
    )
    rules = AuctionRules(slots=2)
    among = contest(pctr, bid, clicks, rules, SETTINGS)
    sale = sell(pctr, bid, rules, among, SETTINGS, LUCKIEST)
    assert sale.outcome.candidates.tolist() == [3, 0]
    assert sale.outcome.ecpm == pytest.approx([40.0, 100.0])
    assert sale.outcome.price == pytest.approx([0.4, 0.8])
    assert sale.plain.candidates.tolist() == [0, 1]
    assert sale.plain.price == pytest.approx([0.8, 0.7])
    # Revenue by slot 0.08, 0.07 without and 0.04, 0.08 with: most is lost where the first slot alone is seen.
    assert (sale.revenue.earned, sale.revenue.given_up) == pytest.approx((0.08, 0.04))
    # Value by slot 0.10, 0.08 and 0.04, 0.10.
    assert (sale.value.earned, sale.value.given_up) == pytest.approx((0.10, 0.06))
    assert sale.changed
    first = rules.model_copy(update={"pricing": Pricing.FIRST})
    assert sell(pctr, bid, first, among, SETTINGS, LUCKIEST).outcome.price == pytest.approx([0.4, 1.0])


def test_an_unlucky_draw_and_a_request_that_does_not_explore_leave_the_ranking_as_it_is():
    pctr, bid, clicks = np.array([0.1, 0.09]), np.ones(2), np.array([50.0, 0.0])
    rules = AuctionRules()
    among = contest(pctr, bid, clicks, rules, SETTINGS)
    for luck in (UNLUCKY, None):
        sale = sell(pctr, bid, rules, among, SETTINGS, luck)
        assert sale.outcome.candidates.tolist() == [0]
        assert (sale.revenue.given_up, sale.value.given_up, sale.changed) == (0.0, 0.0, False)
    greedy = SETTINGS.model_copy(update={"explorer": Explorer.GREEDY})
    assert not sell(pctr, bid, rules, among, greedy, LUCKIEST).changed
    ucb = SETTINGS.model_copy(update={"explorer": Explorer.UCB})
    assert sell(pctr, bid, rules, among, ucb, UNLUCKY).outcome.candidates.tolist() == [1]


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("explorer", list(Explorer))
def test_logged_chances_are_how_often_each_ad_stands_in_its_slot(explorer, share):
    # Two new ads that nothing tells apart, two known ones that are equal, one half known, one out of reach.
    pctr = np.array([0.05, 0.04, 0.06, 0.04, 0.05, 0.02])
    bid = np.array([1.0, 1.2, 1.0, 1.2, 1.0, 0.1])
    clicks = np.array([50.0, 0, 8, 0, 50, 90])
    settings, rules = SETTINGS.model_copy(update={"explorer": explorer}), AuctionRules(slots=3)
    among = contest(pctr, bid, clicks, rules, settings)
    rng, draws = np.random.default_rng(5), 20_000
    counted: dict[tuple[int, int], int] = {}
    told: dict[tuple[int, int], float] = {}
    for explores, luck in zip(
        rng.random(draws) < share, rng.integers(0, 256, (draws, MOST_DRAWN), np.uint8), strict=True
    ):
        sale = sell(pctr, bid, rules, among, settings, luck.tobytes() if explores else None)
        stand = list(enumerate(sale.outcome.candidates.tolist()))
        for key in stand:
            counted[key] = counted.get(key, 0) + 1
        if not told.keys() >= set(stand):
            told |= dict(zip(stand, sale.chances(settings, share)[0], strict=True))
    for key, chance in told.items():
        assert chance > 0
        # Four errors of so many draws.
        assert counted[key] / draws == pytest.approx(chance, abs=4 * math.sqrt(0.25 / draws)), key
    for slot in range(3):
        assert sum(chance for (at, _), chance in told.items() if at == slot) == pytest.approx(1, abs=0.005)


@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 0.5), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.sampled_from([0.0, 3.0, 99.0])
        ),
        min_size=1,
        max_size=14,
    ),
    st.integers(1, 5),
    st.binary(min_size=MOST_DRAWN, max_size=MOST_DRAWN),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_what_was_shown_was_possible_and_what_was_lost_is_within_what_was_told(ads, slots, luck, seen):
    pctr, bid, clicks = (np.array(column) for column in zip(*ads, strict=True))
    rules = AuctionRules(slots=slots, reserve=2.0)
    sale = sell(pctr, bid, rules, contest(pctr, bid, clicks, rules, SETTINGS), SETTINGS, luck)
    propensity, greedy = sale.chances(SETTINGS, 0.5)
    assert ((propensity > 0) & (propensity <= 1 + 1e-12)).all()
    assert (greedy == (sale.outcome.candidates == sale.plain.candidates)).all()
    # The same number of slots, nobody below the reserve, nobody above the bid.
    assert len(sale.outcome.candidates) == len(sale.plain.candidates)
    assert (sale.outcome.ecpm >= 2.0).all()
    assert (sale.outcome.price <= bid[sale.outcome.candidates]).all()
    x = np.sort(seen)[::-1][: len(sale.plain.candidates)]
    both = (sale.plain, sale.outcome)
    for stake, (plain, explored) in (
        (sale.revenue, [o.price * pctr[o.candidates] for o in both]),
        (sale.value, [bid[o.candidates] * pctr[o.candidates] for o in both]),
    ):
        assert float(x @ plain - x @ explored) <= x[:1].sum() * stake.given_up + 1e-12
        assert float(x @ plain) >= x[:1].sum() * stake.earned - 1e-12


def test_the_next_best_is_tried_at_no_cost_to_the_seller_but_to_advertisers():
    pctr, bid = np.array([0.1, 0.1]), np.array([1.0, 0.6])
    among = contest(pctr, bid, np.array([99.0, 0.0]), AuctionRules(), SETTINGS)
    sale = sell(pctr, bid, AuctionRules(), among, SETTINGS, LUCKIEST)
    assert sale.outcome.candidates.tolist() == [1]
    assert (sale.revenue.earned, sale.revenue.given_up) == pytest.approx((0.06, 0.0))
    assert (sale.value.earned, sale.value.given_up) == pytest.approx((0.10, 0.04))
