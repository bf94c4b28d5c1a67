"""A day of the market on budgets: who runs out when, and what pacing saves for the evening.

The second day of a market is sold in quarters of an hour; plans and budgets come from the first. An advertiser's clicks are drawn by the truth,
it pays for them until its budget is gone, and what it gets beyond in the quarter in which that happens is free (over-delivery, as ad
platforms bill it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from clickmill.auction import AuctionRules, DualPacing, Throttling, hold_many
from clickmill.data.world import Competition
from clickmill.errors import DataError

_QUARTER_US = 900_000_000
_DAY_US = 86_400_000_000
QUARTERS = 96


class Pacing(StrEnum):
    """How advertisers keep to their budgets."""

    NONE = "none"
    """Bid the full worth until the money is gone."""
    SHADING = "shading"
    """`DualPacing`."""
    THROTTLING = "throttling"
    """`Throttling`."""


@dataclass(frozen=True, eq=False)
class BudgetDay:
    """The second day, by advertiser (n,) unless said."""

    budget: np.ndarray
    """0 for advertisers that spent nothing on the first day; they do not take part."""
    spent: np.ndarray
    value: np.ndarray
    """Bid times clicks: what the clicks were worth to it."""
    free: np.ndarray
    """What clicks beyond the budget would have cost."""
    spend_by_quarter: np.ndarray
    """(96,) of all."""
    active_by_quarter: np.ndarray
    """(96,) share of the advertisers with money left at its start."""

    @property
    def out_at(self) -> float:
        """Hour by which half of the advertisers have run out; NaN where more than half have money at midnight."""
        short = np.flatnonzero(self.active_by_quarter < 0.5)
        return float(short[0]) / 4 if len(short) else float("nan")

    @property
    def worth_per_money(self) -> float:
        """Value got per unit of money, over all advertisers."""
        return float(self.value.sum() / self.spent.sum())


def budget_day(
    market: Competition, pacing: Pacing, rules: AuctionRules, *, tightness: float = 0.4, seed: int = 0
) -> BudgetDay:
    """Sell the second day. Budgets are `tightness` times what an advertiser would spend on the first day without any.

    Raises DataError for a market of less than two days, or tightness not above 0.
    """
    day = (market.time_us - market.time_us[0] // _DAY_US * _DAY_US) // _DAY_US
    if day.max() < 1 or not tightness > 0:
        raise DataError(
            f"budgets need a market of two days and tightness above 0; got {int(day.max()) + 1} days and {tightness:g}"
        )
    quarter = market.time_us % _DAY_US // _QUARTER_US
    n = int(market.advertiser.max()) + 1
    rng = np.random.default_rng(seed)
    first, second = np.flatnonzero(day == 0), np.flatnonzero(day == 1)
    unpaced, _ = _sold(market, first, market.bid[first], rules, n, rng)
    plan = np.bincount(quarter[first], market.slots[first], minlength=QUARTERS)
    plan = plan / plan.sum()
    budget = tightness * unpaced
    takes_part = budget > 0
    bounds = np.searchsorted(quarter[second], np.arange(QUARTERS + 1))
    held = np.where(takes_part, budget, 1.0)  # of no use to who takes no part
    dual, throttling = DualPacing(), Throttling()
    shaded, chance = dual.begin(held), throttling.begin(held)
    spent, value, free = np.zeros(n), np.zeros(n), np.zeros(n)
    by_quarter, active = np.zeros(QUARTERS), np.zeros(QUARTERS)
    for q in range(QUARTERS):
        rows = second[bounds[q] : bounds[q + 1]]
        left = takes_part & (spent < budget)
        active[q] = left.sum() / takes_part.sum()
        who = market.advertiser[rows]
        bid = market.bid[rows] * left[who]
        if pacing is Pacing.SHADING:
            bid = bid / (1 + shaded.mu[who])
        if pacing is Pacing.THROTTLING:
            bid = bid * (rng.random(who.shape) < chance.chance[who])
        asked, worth = _sold(market, rows, bid, rules, n, rng)
        paid = np.minimum(asked, np.maximum(budget - spent, 0))
        spent, value, free = spent + paid, value + worth, free + asked - paid
        by_quarter[q] = paid.sum()
        share = max(float(plan[q]), 1e-6)
        shaded = dual.after(shaded, paid, share)
        chance = throttling.after(chance, paid, float(plan[: q + 1].sum()))
    return BudgetDay(budget, spent, value, free, by_quarter, active)


def _sold(
    market: Competition,
    rows: np.ndarray,
    bid: np.ndarray,
    rules: AuctionRules,
    n: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) spend and (n,) value by advertiser, of clicks drawn by the truth. The model is right: pCTR is the relevance."""
    sold = hold_many(market.relevance[rows], bid, rules, slots=np.minimum(market.slots[rows], rules.slots))
    seen = market.examination[: sold.candidate.shape[1]]
    clicked = rng.random(sold.candidate.shape) < sold.of(market.relevance[rows]) * seen
    who = np.take_along_axis(market.advertiser[rows], np.maximum(sold.candidate, 0), axis=1)[clicked]
    worth = sold.of(market.bid[rows])[clicked]
    return np.bincount(who, sold.price[clicked], minlength=n), np.bincount(who, worth, minlength=n)
