"""New ads on the simulated market: what exploring them costs and what it brings, by the truth.

The requests, candidates and relevances are those of `competition`. On top each ad has a quality of its own that its model does not know, and the
model may be wrong about new ads as a whole, as models are that see their ids for the first time:

    true logit   = market's logit + quality_a,    quality_a ~ N(0, quality_sd^2)
    model's f    = market's logit + model_bias    for ads that enter while the log runs; their quality has to be learned
                 = market's logit                 for ads that were there before; their quality is known up to known_sd

Clicks are drawn by the truth from what each policy shows, beliefs are updated each hour. Worth is expected eCPM at the bids (what a ranking maximises);
regret is the oracle's worth, who knows every quality, minus the policy's. Policies with one seed meet the same requests, qualities and luck
of the slots. Users' histories are those of the log: what a policy shows does not change what they want next.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, Field

from clickmill.data.world import Competition
from clickmill.experiment.exploration.beliefs import AdBeliefs
from clickmill.experiment.exploration.budget import ExplorationBudget
from clickmill.experiment.exploration.policies import (
    ExplorationSettings,
    exploring_score,
    slot_chances,
)

_HOUR_US = 3_600_000_000
_AT_ONCE = 64  # requests whose chances are computed together: 64 x 12 x 12 x 129 numbers are 10 MB


class NewAds(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What nobody knows of ads."""

    quality_sd: float = Field(0.7, gt=0)
    """Standard deviation of an ad's own quality, in log-odds: a good one of two has twice the odds. Beliefs start from it."""
    model_bias: float = -0.7
    """What the model's logit is off by for new ads: at -0.7 it expects half of their clicks."""
    known_sd: float = Field(0.05, gt=0)
    """How well the quality of old ads is known."""


@dataclass(frozen=True, eq=False)
class Logged:
    """Impressions of a run with their chances, all (m,): what off-policy evaluation needs."""

    request: np.ndarray
    clicked: np.ndarray
    propensity: np.ndarray
    """P(this ad in this slot) by the policy that ran."""
    greedy: np.ndarray
    """1 where the greedy ranking by the same beliefs has this ad in this slot, else 0."""
    greedy_truth: float
    """Expected clicks per impression of that greedy ranking, by the truth."""


@dataclass(frozen=True, eq=False)
class Run:
    """One policy on one market."""

    regret: np.ndarray
    """(days,) worth lost to the oracle on requests where a new ad competes."""
    oracle: np.ndarray
    """(days,) the oracle's worth on all requests."""
    worth: float
    """The policy's, on all requests."""
    given_up: float
    """Expected eCPM given up by the mean beliefs, as a share of the greedy ranking's: what the budget is held to."""
    given_up_truth: float
    """The same by the truth: worth of the greedy ranking by the same beliefs, minus the policy's, as a share; below 0 where exploring was right at once."""
    share: np.ndarray
    """(hours,) share of requests that explored."""
    logged: Logged | None

    @property
    def relative_regret(self) -> float:
        """Regret on requests with new ads over the oracle's worth on all."""
        return float(self.regret.sum() / self.oracle.sum())


def simulate(
    market: Competition,
    settings: ExplorationSettings,
    budget: ExplorationBudget,
    ads: NewAds | None = None,
    *,
    seed: int = 0,
    keep_log: bool = False,
) -> Run:
    """Run a policy through the market. With `keep_log` chances are computed too (slower)."""
    ads = ads or NewAds()
    n_ads, new = len(market.starts_h), market.starts_h > 0
    rng = np.random.default_rng([seed, 1])
    quality = rng.normal(0, ads.quality_sd, n_ads)
    guess = np.where(new, 0.0, quality + ads.known_sd * rng.standard_normal(n_ads))
    beliefs = AdBeliefs(guess, np.where(new, ads.quality_sd, ads.known_sd) ** -2.0)
    logit = np.log(market.relevance) - np.log1p(-market.relevance)
    truth = 0.5 * (1 + np.tanh(0.5 * (logit + quality[market.ad])))
    f = logit + ads.model_bias * new[market.ad]
    hour = (market.time_us - market.time_us[0] // _HOUR_US * _HOUR_US) // _HOUR_US
    bounds = np.searchsorted(hour, np.arange(int(hour[-1]) + 2))
    most = int(market.slots.max())
    noise, luck = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3])
    account, shares, sums = budget.begin(), [], []
    log = _Log(settings, most) if keep_log else None
    for h, (begin, end) in enumerate(pairwise(bounds)):
        part = slice(begin, end)
        ad, bid, room = market.ad[part], market.bid[part], market.slots[part]
        seen = market.examination[:most] * (np.arange(most) < room[:, None])
        mean, sd = beliefs.mean[ad], beliefs.sd[ad]
        score = exploring_score(f[part], mean, sd, bid, settings, noise)
        with np.errstate(divide="ignore"):
            believed = 0.5 * (1 + np.tanh(0.5 * (f[part] + mean))) * bid
            greedy = np.log(believed)
        explores = noise.random(len(ad)) < account.share
        order = _order(np.where(explores[:, None], score, greedy), most)
        by_mean = _order(greedy, most)
        worth = truth[part] * bid
        best = _worth(worth, _order(worth, most), seen)
        got = _worth(worth, order, seen)
        plain, explored = _worth(believed, by_mean, seen), _worth(believed, order, seen)
        competes = (new[ad] & (bid > 0)).any(axis=1)
        sums.append(
            (h // 24, best.sum(), (best - got)[competes].sum(), got.sum(), plain.sum(), (plain - explored).sum(),
             _worth(worth, by_mean, seen).sum())
        )  # fmt: skip
        shares.append(account.share)
        shown = (seen > 0) & (np.take_along_axis(bid, order, axis=1) > 0)
        rate = np.take_along_axis(truth[part], order, axis=1) * seen
        clicked = luck.random(shown.shape) < rate
        if log is not None:
            log.add(
                f[part],
                mean,
                sd,
                bid,
                account.share,
                order,
                by_mean,
                shown,
                clicked,
                truth[part],
                seen,
                begin,
            )
        beliefs = beliefs.after(
            np.take_along_axis(ad, order, axis=1)[shown],
            clicked[shown],
            np.take_along_axis(f[part], order, axis=1)[shown],
            seen[shown],
        )
        account = budget.after(
            account,
            earned=float(plain.sum()),
            given_up=max(float((plain - explored).sum()), 0.0),  # rounding may go below
            explored=int(explores.sum()),
            requests=len(ad),
        )
    day, best, regret, got, plain, lost, greedy_worth = (
        np.array(column) for column in zip(*sums, strict=True)
    )
    return Run(
        regret=np.bincount(day, regret),
        oracle=np.bincount(day, best),
        worth=float(got.sum()),
        given_up=float(lost.sum() / plain.sum()),
        given_up_truth=float((greedy_worth.sum() - got.sum()) / greedy_worth.sum()),
        share=np.array(shares),
        logged=None if log is None else log.table(),
    )


class _Log:
    def __init__(self, settings: ExplorationSettings, slots: int) -> None:
        self._settings, self._slots = settings, slots
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._greedy_clicks, self._impressions = 0.0, 0

    def add(
        self, f: np.ndarray, mean: np.ndarray, sd: np.ndarray, bid: np.ndarray, share: float, order: np.ndarray,
        by_mean: np.ndarray, shown: np.ndarray, clicked: np.ndarray, truth: np.ndarray, seen: np.ndarray, first: int,
    ) -> None:  # fmt: skip
        for begin in range(0, len(f), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            chance = slot_chances(
                f[part], mean[part], sd[part], bid[part], self._settings, self._slots, share=share
            )
            row, slot = np.nonzero(shown[part])
            ad = order[part][row, slot]
            self._rows.append(
                (
                    first + begin + row,
                    clicked[part][row, slot],
                    chance[row, ad, slot],
                    by_mean[part][row, slot] == ad,
                )
            )
        self._greedy_clicks += float((np.take_along_axis(truth, by_mean, axis=1) * seen).sum())
        self._impressions += int(shown.sum())

    def table(self) -> Logged:
        request, clicked, propensity, greedy = (
            np.concatenate(column) for column in zip(*self._rows, strict=True)
        )
        return Logged(
            request, clicked, propensity, greedy.astype(np.float64), self._greedy_clicks / self._impressions
        )


def _order(score: np.ndarray, slots: int) -> np.ndarray:
    return np.argsort(-score, axis=1, kind="stable")[:, :slots]


def _worth(worth: np.ndarray, order: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(n,) expected worth of a ranking."""
    return np.asarray((np.take_along_axis(worth, order, axis=1) * seen).sum(axis=1))
