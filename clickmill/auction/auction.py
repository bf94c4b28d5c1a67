"""The auction of a request's slots among its candidates: rank by eCPM, price by the rule.

Clicks of slot k are taken to be P(click on the ad | seen) times P(slot k is seen). The second factor is the same for all ads, so it
changes neither the order nor the price per click, and pCTR at the top is all the auction needs.

Edelman, Ostrovsky, Schwarz, "Internet Advertising and the Generalized Second-Price Auction", AER 2007; Varian, "Position
Auctions", IJIO 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, Field

from clickmill.auction.ecpm import ecpm


class Pricing(StrEnum):
    """What a click costs."""

    FIRST = "first"
    """Its own bid."""
    SECOND = "second"
    """The least bid that would have kept its rank: the next eCPM, or the reserve, over 1000 pCTR (generalised second price)."""


class AuctionRules(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How slots are sold."""

    slots: int = Field(default=1, ge=1, le=10_000)
    """Most candidates that are shown."""
    pricing: Pricing = Pricing.SECOND
    """What a click costs its advertiser."""
    reserve: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Least eCPM, in currency per thousand impressions, at which a slot is sold at all; below it the slot stays empty."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The candidates shown, best first: k of them, at most `AuctionRules.slots`."""

    candidates: np.ndarray
    """(k,) int64: which of the request's candidates."""
    ecpm: np.ndarray
    """(k,) float64, currency per thousand impressions; not increasing, unless another order was asked for."""
    price: np.ndarray
    """(k,) float64, currency per click, never above the bid."""


def hold(pctr: np.ndarray, bid: np.ndarray, rules: AuctionRules, score: np.ndarray | None = None) -> Outcome:
    """Sell the slots of one request. pctr (n,), bid (n,) in currency per click; n may be 0.

    Equal eCPMs keep the order in which the candidates came. A candidate below the reserve, or worth nothing, is not shown, but one
    that is not shown for lack of a slot still sets the price of the last one that is. Raises DataError as `ecpm` does.

    score (n,), where given, ranks instead of the eCPM, which still says who is worth showing and what it costs: the second price is then
    the least bid that would have kept the candidate ahead, by eCPM, of everyone behind it. One that a score has lifted over candidates
    worth more could not have bid that much and pays its bid; those it was lifted over pay what they would have paid without it in front.
    """
    value = ecpm(pctr, bid)
    order = np.argsort(-value if score is None else -score, kind="stable")
    order = order[(value[order] >= rules.reserve) & (value[order] > 0)]
    shown = order[: rules.slots]
    bids = np.asarray(bid, np.float64)[shown]
    if rules.pricing is Pricing.FIRST:
        return Outcome(shown, value[shown], bids)
    behind = np.append(value[order], rules.reserve)
    if score is not None:
        behind = np.maximum.accumulate(behind[::-1])[::-1]
    # Rounding may put the quotient a last digit above the bid.
    price = np.minimum(behind[1 : len(shown) + 1] / (1000.0 * np.asarray(pctr, np.float64)[shown]), bids)
    return Outcome(shown, value[shown], price)
