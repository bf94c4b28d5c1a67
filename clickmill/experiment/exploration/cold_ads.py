"""One ranking of an endpoint that explores: which candidates are hardly known, who is drawn ahead, what that costs, and how likely it was.

    unknown of ad a     u_a ~ N(0, sd_a^2) on the log-odds,   1 / sd_a^2 = 1 / unknown_sd^2 + c_a (1 - p)

c_a is how many clicks the bundle's training log holds of the ad, in expectation: with one indicator per ad in the last layer c_a (1 - p) is
Fisher's information about its weight (`beliefs`), and the weight itself is in the model's logit already. So the beliefs of a ranker are
those of its bundle; they move with the next one, not between two. An ad with enough clicks is known and keeps its score.

The model's pCTR ranks the rest, says what may be shown at all (the reserve) and what a click costs (`auction.hold`): the draw decides the
order and nothing else. What is given up is counted twice, as expected revenue at those prices and as expected value at the bids: an ad that
is lifted into the place of the next best pays what that one would have paid, and its advertisers have lost all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from clickmill.auction import AuctionRules, Outcome, ecpm, hold
from clickmill.experiment.exploration.policies import (
    ExplorationSettings,
    Explorer,
    drawn_score,
    place_chances,
    quantiles,
)

MOST_DRAWN = 8
"""Candidates of one request that are drawn, those that reach highest: more take time and hardly more slots. A byte of luck for each."""


class ColdAdSettings(ExplorationSettings):
    """How an endpoint tries ads that its bundle hardly knows."""

    cost: float = Field(0.001, ge=0, lt=1)
    """Share of expected revenue that may be given up: a tenth of a percent. Each process keeps to it by itself."""
    unknown_sd: float = Field(0.7, gt=0, le=5)
    """Standard deviation of what the model does not know of a new ad, in log-odds: at 0.7 a good one of two has twice the odds. An assumption:
    the bundle's card says whether the model is right about new ads on average (slice `... in train`), not how much they differ."""
    known_clicks: float = Field(20.0, gt=0)
    """Clicks of an ad in the training log from which it is known and no longer tried: at 20 its click rate is known to a fifth."""


@dataclass(frozen=True, eq=False)
class Contest:
    """A request's candidates as an explorer sees them, all (n,) float64 but `drawn`."""

    centre: np.ndarray
    """ln eCPM; -inf where no slot can be sold to it."""
    spread: np.ndarray
    """Standard deviation of that; 0 for those that are not drawn."""
    drawn: np.ndarray
    """(m,) int64: candidates that are hardly known and may reach a slot, m <= `MOST_DRAWN`."""


@dataclass(frozen=True)
class Stake:
    """Of one request, in currency per impression."""

    earned: float
    """Expected of the first slot without exploring."""
    given_up: float
    """The most that exploring loses, whatever the chances of the slots to be seen.

    With chances x_1 >= x_2 >= ... the loss is sum x_k d_k = sum (x_k - x_k+1) S_k <= x_1 max S_k, where S_k = d_1 + ... + d_k (Abel), and the
    first slot alone earns x_1 `earned`: sums over requests of both bound the share that is lost."""

    @classmethod
    def of(cls, plain: np.ndarray, explored: np.ndarray) -> Stake:
        """From what the slots (s,) earn when they are seen."""
        if not len(plain):
            return cls(0.0, 0.0)
        return cls(float(plain[0]), max(float(np.cumsum(plain - explored).max()), 0.0))


@dataclass(frozen=True, eq=False)
class Sale:
    """A request whose slots are sold, with what the draw had to do with it."""

    outcome: Outcome
    plain: Outcome
    """What would have been sold without exploring; the same object where that is what was sold."""
    contest: Contest | None
    """None where no candidate could be drawn."""
    revenue: Stake
    """At the prices."""
    value: Stake
    """At the bids."""

    @property
    def changed(self) -> bool:
        """Whether exploring shows other ads, or in another order."""
        return not np.array_equal(self.outcome.candidates, self.plain.candidates)

    def chances(self, settings: ColdAdSettings, share: float) -> tuple[np.ndarray, np.ndarray]:
        """For each ad shown (s,): P(it stands in its slot) when a `share` of the requests explores, above 0; and the same without exploring, 1 or 0."""
        shown, plain = self.outcome.candidates, self.plain.candidates
        greedy = (shown == plain).astype(np.float64)
        if self.contest is None or share == 0 or settings.explorer is Explorer.GREEDY:
            return greedy, greedy
        return share * _chances(self.contest, settings, shown) + (1 - share) * greedy, greedy


def contest(
    pctr: np.ndarray, bid: np.ndarray, clicks: np.ndarray, rules: AuctionRules, settings: ColdAdSettings
) -> Contest | None:
    """Who may be drawn among n candidates; None where nobody is. pctr, bid: as of `auction.hold`. clicks: (n,) that the bundle's training
    log holds of each ad, in expectation."""
    p = np.asarray(pctr, np.float64)
    value = ecpm(p, bid)
    may = (value > 0) & (value >= rules.reserve)
    cold = may & (clicks < settings.known_clicks)
    if not cold.any():
        return None
    with np.errstate(divide="ignore"):
        # Rounded, so that what is equal but for the last digits is equal for the draw and for its chances.
        centre = np.where(may, np.round(np.log(value), 9), -np.inf)
    spread = (1 - p) * (settings.unknown_sd**-2 + clicks * (1 - p)) ** -0.5
    reach = centre + settings.width * spread * quantiles()[-1]
    # Below the last slot's holder even with the luckiest draw: not worth one.
    least = np.partition(centre, -rules.slots)[-rules.slots] if rules.slots < len(centre) else -np.inf
    drawn = np.flatnonzero(cold & (reach >= least))
    if len(drawn) == 0:
        return None
    drawn = np.sort(drawn[np.argsort(-reach[drawn], kind="stable")[:MOST_DRAWN]])
    only = np.zeros_like(spread)
    only[drawn] = spread[drawn]
    return Contest(centre, only, drawn)


def sell(
    pctr: np.ndarray,
    bid: np.ndarray,
    rules: AuctionRules,
    among: Contest | None,
    settings: ColdAdSettings,
    luck: bytes | None,
) -> Sale:
    """Sell the slots of a request. luck: at least `MOST_DRAWN` bytes, drawn evenly; None for a request that does not explore."""
    plain = hold(pctr, bid, rules)
    outcome = plain
    if among is not None and luck is not None and settings.explorer is not Explorer.GREEDY:
        ticket = np.zeros(len(among.centre), np.int64)
        ticket[among.drawn] = np.frombuffer(luck, np.uint8, len(among.drawn))
        outcome = hold(pctr, bid, rules, drawn_score(among.centre, among.spread, settings, ticket))
    p = np.asarray(pctr, np.float64)
    revenue = Stake.of(*(sold.price * p[sold.candidates] for sold in (plain, outcome)))
    value = Stake.of(plain.ecpm / 1000.0, outcome.ecpm / 1000.0)
    return Sale(outcome, plain, among, revenue, value)


def _chances(among: Contest, settings: ColdAdSettings, shown: np.ndarray) -> np.ndarray:
    """(s,) P(each stands in its slot) when the request explores."""
    slots = len(shown)
    fixed = np.flatnonzero((among.spread == 0) & np.isfinite(among.centre))
    # Of those that are not drawn only the best can be shown.
    best = fixed[np.argsort(-among.centre[fixed], kind="stable")[:slots]]
    few = np.sort(np.concatenate([among.drawn, best]))
    of = np.searchsorted(few, shown)
    found = place_chances(among.centre[None, few], among.spread[None, few], settings, slots, of[None])[0]
    return found[np.arange(slots), np.arange(slots)]
