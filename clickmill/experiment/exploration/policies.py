"""Ranking with what is not known: by a draw from the beliefs (Thompson sampling) or by an upper bound (UCB), and the chances of the draw.

Scores are on the scale of ln eCPM, where a belief N(mean, sd^2) about the log-odds is, by the delta method, N(ln p, ((1 - p) sd)^2):

    greedy     ln bid + ln sigmoid(f + mean)
    ucb        greedy + width (1 - p) sd                        optimism: Auer, JMLR 2002; for rankings Kveton et al., ICML 2015
    thompson   greedy + width (1 - p) sd max(z, 0), z ~ N(0,1)  never below the mean: May, Korda, Lee, Leslie, "Optimistic Bayesian
               sampling", JMLR 2012; width below 1 as in Chapelle & Li, NeurIPS 2011, section 4 ("posterior reshaping")

max(z, 0) is drawn from its 128 middle quantiles, not from a continuum: draws of different ads are independent, so the chance that an ad stands
in a slot is a sum over its own draw of a Poisson-binomial probability, exact and without simulation, and what was shown never has a chance
of 0. UCB draws nothing: it logs chances of 0 or 1, mixed with the share of requests that explore at all; such a log can judge policies
between the two rankings and no others.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache

import numpy as np
from pydantic import BaseModel, Field

from clickmill.errors import DataError

TICKETS = 256
"""Equally likely outcomes of a draw: a byte. Half of them are at the mean, each of the others is at a quantile of its own."""
_SAME = 1e-10
"""Scores (of ln eCPM) that are nearer than this are the same: two ads that nothing tells apart."""


class Explorer(StrEnum):
    """How to rank."""

    GREEDY = "greedy"
    """By the mean: no exploration."""
    THOMPSON = "thompson"
    """By an optimistic draw."""
    UCB = "ucb"
    """By an upper bound."""


_WIDTHS = {Explorer.THOMPSON: 0.5, Explorer.UCB: 0.25}


class ExplorationSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Who explores, and how boldly."""

    explorer: Explorer = Explorer.THOMPSON
    """Draws can be logged with chances strictly between 0 and 1, which off-policy evaluation needs; UCB learns quicker."""
    width: float = Field(default_factory=lambda known: _WIDTHS.get(known["explorer"], 1.0), gt=0, le=10)
    """Standard deviations: of the draw (0.5 by default), or of the bound (0.25). Narrow: wider ones find underrated ads sooner and cost more
    where the model is right (docs/benchmarks.md, Money)."""


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
    return drawn_score(centre, spread, settings, rng.integers(TICKETS, size=centre.shape))


def drawn_score(
    centre: np.ndarray, spread: np.ndarray, settings: ExplorationSettings, ticket: np.ndarray
) -> np.ndarray:
    """Scores on the scale of ln eCPM, any shape, that of all arguments: its mean, its standard deviation (0 where an ad is known), and an
    integer of 0 to `TICKETS` - 1, each as likely as another, which `thompson` alone looks at."""
    if settings.explorer is Explorer.GREEDY:
        return centre
    if settings.explorer is Explorer.UCB:
        return centre + settings.width * spread
    return centre + settings.width * spread * quantiles()[np.maximum(ticket - TICKETS // 2 + 1, 0)]


@cache
def quantiles() -> np.ndarray:
    """(129,) values of max(z, 0), rising: 0, which has half of the mass, and the middles of 128 equal parts of the rest."""
    from scipy.special import ndtri  # type: ignore[import-untyped]

    half = TICKETS // 2
    return np.concatenate([[0.0], ndtri(0.5 + (np.arange(half) + 0.5) / TICKETS)])


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
    of = np.broadcast_to(np.arange(centre.shape[1]), centre.shape)
    return share * place_chances(centre, spread, settings, slots, of) + (1 - share) * greedy


def place_chances(
    centre: np.ndarray, spread: np.ndarray, settings: ExplorationSettings, slots: int, of: np.ndarray
) -> np.ndarray:
    """(n, m, slots): P(candidate stands in slot 1, 2, ...) by the explorer alone, for the candidates `of` (n, m) of each request.

    centre, spread: (n, k) mean and standard deviation of ln eCPM; -inf stands nowhere, and who has no spread is not drawn.
    """
    if settings.explorer is not Explorer.THOMPSON:
        score = drawn_score(centre, spread, settings, np.zeros(centre.shape, np.int64))
        return np.take_along_axis(_places(score, slots), of[:, :, None], axis=1)
    return _drawn(centre, settings.width * spread, slots, of)


def _places(score: np.ndarray, slots: int) -> np.ndarray:
    """(n, k, slots): 1 where the candidate stands. A score of -inf stands nowhere."""
    order = np.argsort(-score, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    return ((place[:, :, None] == np.arange(slots)) & np.isfinite(score)[:, :, None]).astype(np.float64)


def _drawn(centre: np.ndarray, spread: np.ndarray, slots: int, of: np.ndarray) -> np.ndarray:
    node = quantiles()
    mass = np.full(len(node), 1 / TICKETS)
    mass[0] = 0.5
    beyond = np.append(1.0, 0.5 - np.arange(len(node)) / TICKETS)  # P(one of the quantiles from this one on)
    there = np.isfinite(centre)
    centre = np.where(there, centre, 0.0)
    own = np.take_along_axis(centre, of, 1)[:, :, None] + np.take_along_axis(spread, of, 1)[:, :, None] * node
    draws = spread.max(axis=0, initial=0.0) > 0
    ahead = np.zeros((slots, *own.shape))  # P(so many of those that draw are ahead)
    ahead[0] = 1.0
    for other in np.flatnonzero(draws).tolist():
        width = spread[:, other, None, None]
        needed = _needed(own, centre[:, other, None], of, other)
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.where(width > 0, needed / width, np.where(needed > 0, np.inf, -np.inf))
        beats = beyond[np.searchsorted(node, least)] * there[:, other, None, None]
        ahead[1:] += beats * (ahead[:-1] - ahead[1:])
        ahead[0] *= 1 - beats
    fixed = np.zeros(own.shape, np.int64)  # how many of the others are
    for other in np.flatnonzero(~draws).tolist():
        fixed += (_needed(own, centre[:, other, None], of, other) <= 0) & there[:, other, None, None]
    place = np.arange(slots)[:, None, None, None] - fixed
    chance = np.take_along_axis(ahead, np.maximum(place, 0), axis=0) * (place >= 0)
    return np.moveaxis(chance @ mass, 0, -1) * np.take_along_axis(there, of, 1)[:, :, None]


def _needed(own: np.ndarray, centre: np.ndarray, of: np.ndarray, other: int) -> np.ndarray:
    """(n, m, nodes): what `other` has to draw on top of its `centre` (n, 1) to be ahead of `own` (n, m, nodes); never ahead of itself."""
    # Of two equal scores the one that came first stays ahead: the sort is stable.
    slack = np.where(other == of, np.inf, np.where(other < of, -_SAME, _SAME))
    return np.asarray(own - (centre - slack)[:, :, None])
