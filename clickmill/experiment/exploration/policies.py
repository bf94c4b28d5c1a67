"""Ranking with what is not known: by a draw from the beliefs (Thompson sampling) or by an upper bound (UCB), and the chances of the draw.

Scores are on the scale of ln eCPM, where a belief N(mean, sd^2) about the log-odds is, by the delta method, N(ln p, ((1 - p) sd)^2):

    greedy     ln bid + ln sigmoid(f + mean)
    ucb        greedy + width (1 - p) sd                        optimism: Auer, JMLR 2002; for rankings Kveton et al., ICML 2015
    thompson   greedy + width (1 - p) sd max(z, 0), z ~ N(0,1)  never below the mean: May, Korda, Lee, Leslie, "Optimistic Bayesian
               sampling", JMLR 2012; width below 1 as in Chapelle & Li, NeurIPS 2011, section 4 ("posterior reshaping")

Draws of different ads are independent, so the chance that an ad stands in a slot is an integral over its own draw of a Poisson-binomial
probability: closed form up to the quadrature, no simulation. UCB draws nothing: it logs chances of 0 or 1, mixed with the share of requests
that explore at all; such a log can judge policies between the two rankings and no others.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from pydantic import BaseModel, Field

from clickmill.errors import DataError

_NODES = 128
"""Of the quadrature over an ad's draw, equal shares of its mass: a chance is wrong by at most a fraction of 1 / 128 for each rival."""


class Explorer(StrEnum):
    """How to rank."""

    GREEDY = "greedy"
    """By the mean: no exploration."""
    THOMPSON = "thompson"
    """By an optimistic draw."""
    UCB = "ucb"
    """By an upper bound."""


class ExplorationSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Who explores, and how boldly."""

    explorer: Explorer = Explorer.THOMPSON
    """Draws can be logged with chances strictly between 0 and 1, which off-policy evaluation needs; UCB learns quicker."""
    width: float = Field(0.5, gt=0, le=10)
    """Standard deviations: of the draw, or of the bound. Chosen on the market with two seeds among 0.25, 0.5, 0.75, 1 and 2 (docs/auctions.md)."""


def exploring_score(
    logit: np.ndarray,
    mean: np.ndarray,
    sd: np.ndarray,
    bid: np.ndarray,
    settings: ExplorationSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n, k) scores on the scale of ln eCPM; the highest gets the first slot, -inf (a bid of 0) none.

    All (n, k): the model's logit, mean and sd of the beliefs, bid. Raises DataError for shapes that differ.
    """
    centre, spread = scale(logit, mean, sd, bid)
    if settings.explorer is Explorer.GREEDY:
        return centre
    if settings.explorer is Explorer.UCB:
        return centre + settings.width * spread
    return centre + settings.width * spread * np.maximum(rng.standard_normal(centre.shape), 0)


def scale(
    logit: np.ndarray, mean: np.ndarray, sd: np.ndarray, bid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) mean and standard deviation of ln eCPM. Arguments of `exploring_score`."""
    if not logit.shape == mean.shape == sd.shape == bid.shape or logit.ndim != 2:
        raise DataError(
            f"logit {logit.shape}, mean {mean.shape}, sd {sd.shape} and bid {bid.shape} need one shape (requests, candidates)"
        )
    p = 0.5 * (1 + np.tanh(0.5 * (logit + mean)))
    with np.errstate(divide="ignore"):
        return np.log(p) + np.log(bid), (1 - p) * sd


def slot_chances(
    logit: np.ndarray,
    mean: np.ndarray,
    sd: np.ndarray,
    bid: np.ndarray,
    settings: ExplorationSettings,
    slots: int,
    *,
    share: float = 1.0,
) -> np.ndarray:
    """(n, k, slots): P(candidate stands in slot 1, 2, ...) when a share of the requests explores and the rest is ranked greedily.

    Arguments of `exploring_score`. What is logged as propensity. Memory: n k^2 x 129 numbers at once; give it few requests at a time.
    """
    centre, spread = scale(logit, mean, sd, bid)
    greedy = _places(centre, slots)
    if settings.explorer is Explorer.GREEDY or share == 0:
        return greedy
    if settings.explorer is Explorer.UCB:
        return share * _places(centre + settings.width * spread, slots) + (1 - share) * greedy
    return share * _drawn(centre, settings.width * spread, slots) + (1 - share) * greedy


def _places(score: np.ndarray, slots: int) -> np.ndarray:
    """(n, k, slots): 1 where the candidate stands. A score of -inf stands nowhere."""
    order = np.argsort(-score, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    return ((place[:, :, None] == np.arange(slots)) & np.isfinite(score)[:, :, None]).astype(np.float64)


def _drawn(centre: np.ndarray, spread: np.ndarray, slots: int) -> np.ndarray:
    from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

    n, k = centre.shape
    spread = np.maximum(spread, 1e-12)  # a pCTR that rounds to 1 has no spread; 0 / 0 would be no chance
    there = np.isfinite(centre)
    # Half of an ad's mass is at its mean; the other half is cut into equal parts, each at its middle.
    node = np.concatenate([[0.0], ndtri(0.5 + (np.arange(_NODES) + 0.5) / (2 * _NODES))])
    mass = np.concatenate([[0.5], np.full(_NODES, 0.5 / _NODES)])
    own = np.where(there, centre, 0.0)[:, :, None] + spread[:, :, None] * node
    ahead = np.zeros((slots, n, k, len(node)))
    ahead[0] = 1.0
    each = np.arange(k)
    for other in range(k):
        above = own - np.where(there[:, other], centre[:, other], 0.0)[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            beats = np.where(above < 0, 1.0, ndtr(-above / spread[:, other, None, None]))
        # Equal means: a draw at the mean of the one that came first stays ahead (the sort is stable).
        tie = (above == 0) & (node == 0)
        beats = np.where(tie, np.where(other < each[:, None], 1.0, 0.5), beats)
        beats *= there[:, other, None, None]
        beats[:, other] = 0.0
        ahead[1:] += beats * (ahead[:-1] - ahead[1:])
        ahead[0] *= 1 - beats
    return np.moveaxis(ahead @ mass, 0, -1) * there[:, :, None]
