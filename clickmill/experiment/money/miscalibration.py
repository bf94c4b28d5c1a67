"""The price of a wrong probability: the same requests sold by distorted pCTR and by the true one, clicks coming by the truth in both.

Two parties lose in different ways, so both are here:

    the seller   ranks by eCPM and charges per click. A common factor on all pCTR changes neither the order nor second prices (each price is
                 a ratio of two pCTR); it costs only through the reserve. Errors that differ between ads change the order.
    a buyer      who pays per impression in somebody else's second-price auction bids 1000 pCTR x worth. A pCTR 10 % too high buys impressions
                 at a loss, one 10 % too low leaves profitable ones: here a common factor costs at once.

Value to advertisers (of the slots that the reserve lets be sold) and the buyer's profit are largest at the truth, so a small error costs its square there.
Revenue is not: prices are ratios of pCTR, and an error that bends those ratios moves money between seller and advertisers at once. pCTR that
are too flat raise second prices: the seller gains by what its advertisers lose, until they bid less, which this market's advertisers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from clickmill.auction import AuctionRules, Sold, expected, hold_many
from clickmill.data.world import Competition
from clickmill.errors import UndefinedMetric, UsageError
from clickmill.evaluation import Estimate
from clickmill.evaluation.rows import dot

DRAWS = 8
"""Of the factors by ad: a few hundred popular ads carry most of the money, so one draw of their factors says little."""


class ErrorKind(StrEnum):
    """What is wrong with pCTR, by an error e."""

    COMMON = "common"
    """All pCTR are (1 + e) times the truth: calibration ratio 1 + e."""
    BY_AD = "by_ad"
    """Each ad's pCTR is off by a factor of its own, log-normal with standard deviation e and mean 1: calibrated on the whole, not by ad."""
    SLOPE = "slope"
    """Log-odds are stretched by 1 + e around their mean: too sure of itself above 0, too shy below. The order by pCTR stays, not that by eCPM."""


@dataclass(frozen=True)
class Cost:
    """What one error costs, relative to the truth. Intervals are over requests like these, and over draws of the error where it is drawn."""

    kind: ErrorKind
    error: float
    revenue: Estimate
    """Seller's revenue lost, as a share; negative: gained."""
    value: Estimate
    """Advertisers' value (bid x clicks) lost, as a share: the welfare that goes to nobody."""
    surplus: Estimate | None
    """What advertisers keep of it, lost, as a share; None where they keep nothing (first prices)."""
    buyer_profit: Estimate
    """Profit lost, as a share, by a buyer per impression whose pCTR alone has the error."""
    buyer_spend: float
    """That buyer's spend over what it would spend by the truth, minus 1."""


def distorted(
    relevance: np.ndarray, ad: np.ndarray, kind: ErrorKind, error: float, *, seed: int = 0
) -> np.ndarray:
    """pCTR with the error, (n, k), in 0 to 1. relevance, ad: (n, k). Raises UsageError for an error that has no meaning."""
    if kind is ErrorKind.COMMON:
        if error <= -1:
            raise UsageError(f"a common error must be above -1 (all pCTR would be 0), got {error:g}")
        return np.minimum(relevance * (1 + error), 1.0)
    if kind is ErrorKind.BY_AD:
        if error < 0:
            raise UsageError(f"an error by ad is a standard deviation, at least 0, got {error:g}")
        factor = np.exp(error * np.random.default_rng(seed).standard_normal(int(ad.max()) + 1) - error**2 / 2)
        return np.minimum(relevance * factor[ad], 1.0)
    logit = np.log(relevance) - np.log1p(-relevance)
    middle = logit.mean()
    return 0.5 * (1 + np.tanh(0.5 * (middle + (1 + error) * (logit - middle))))


def curve(
    market: Competition,
    kind: ErrorKind,
    errors: Sequence[float],
    rules: AuctionRules,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[Cost]:
    """Cost of each error. `by_ad` is averaged over `DRAWS` draws of the factors, from seed to seed + DRAWS - 1, the same for each error.

    Raises UndefinedMetric where even the truth sells nothing (a reserve above all eCPM).
    """
    truth = market.relevance
    room = np.minimum(market.slots, rules.slots)
    right = _sell(market, truth, rules, room)
    if not right[0].sum() > 0:
        raise UndefinedMetric(
            f"with the true probabilities nothing is sold at a reserve of {rules.reserve:g}: lower it; there is no revenue to lose"
        )
    rival = _rivals(1000.0 * truth * market.bid)
    buyer = _buy(truth, market, rival)
    costs = []
    for error in errors:
        seeds = range(seed, seed + DRAWS) if kind is ErrorKind.BY_AD and error > 0 else [seed]
        wrong = [distorted(truth, market.ad, kind, error, seed=each) for each in seeds]
        sold = [_sell(market, pctr, rules, room) for pctr in wrong]
        bought = [_buy(pctr, market, rival) for pctr in wrong]
        revenue, value = (_lost(right[i], [one[i] for one in sold], level) for i in range(2))
        # Of first prices the sums of rounding are left.
        keeps = right[2].sum() > 1e-9 * right[1].sum()
        surplus = _lost(right[2], [one[2] for one in sold], level) if keeps else None
        costs.append(
            Cost(
                kind,
                error,
                revenue,
                value,
                surplus,
                buyer_profit=_lost(buyer[0], [profit for profit, _ in bought], level),
                buyer_spend=float(np.mean([spend.sum() for _, spend in bought]) / buyer[1].sum()) - 1,
            )
        )
    return costs


def _sell(
    market: Competition, pctr: np.ndarray, rules: AuctionRules, room: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(n,) revenue, value and surplus by the truth of what is sold by `pctr`."""
    sold: Sold = hold_many(pctr, market.bid, rules, slots=room)
    earned = expected(sold, market.relevance, market.bid, market.examination)
    return earned.revenue, earned.value, earned.surplus


def _rivals(ecpm: np.ndarray) -> np.ndarray:
    """(n, k): the best eCPM among the others of the request: what a buyer has to beat, and pays."""
    two = np.sort(np.partition(ecpm, -2, axis=1)[:, -2:], axis=1)
    is_best = np.arange(ecpm.shape[1]) == ecpm.argmax(axis=1)[:, None]
    return np.where(is_best, two[:, :1], two[:, 1:])


def _buy(pctr: np.ndarray, market: Competition, rival: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) profit and spend, per thousand impressions, of each candidate in turn buying the top slot by its own `pctr`, summed over candidates."""
    wins = 1000.0 * pctr * market.bid > rival
    worth = 1000.0 * market.relevance * market.bid
    return np.where(wins, worth - rival, 0.0).sum(axis=1), np.where(wins, rival, 0.0).sum(axis=1)


def _lost(right: np.ndarray, wrong: Sequence[np.ndarray], level: float) -> Estimate:
    """1 - sum(wrong) / sum(right), averaged over draws of the error; arrays (n,). The variance is that over requests, by linearisation,
    plus that of the mean over the draws."""
    total, n = float(right.sum()), len(right)
    kept = np.array([float(one.sum()) / total for one in wrong])
    influence = (np.mean(wrong, axis=0) - kept.mean() * right) / total
    variance = dot(influence, influence) * n / max(n - 1, 1)
    if len(kept) > 1:
        variance += float(kept.var(ddof=1)) / len(kept)
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(variance))
    lost = 1 - float(kept.mean())
    return Estimate(value=lost, low=lost - reach, high=lost + reach)


def baseline(market: Competition, rules: AuctionRules) -> dict[str, float]:
    """Revenue, value and surplus by the true probabilities, in currency per million requests, and `sold`: slots sold per request."""
    room = np.minimum(market.slots, rules.slots)
    earned = _sell(market, market.relevance, rules, room)
    sold = hold_many(market.relevance, market.bid, rules, slots=room)
    money = {
        name: 1e6 * float(values.mean())
        for name, values in zip(("revenue", "value", "surplus"), earned, strict=True)
    }
    return money | {"sold": float(sold.shown.sum(axis=1).mean())}
