"""Which of the candidate ads are shown, and in which order: the logging policy and the seam for another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from clickmill.data.world.config import LoggingPolicy
from clickmill.data.world.population import Floats, Ints
from clickmill.data.world.preference import Requests


@dataclass(frozen=True)
class Auction:
    """Requests and the ads that compete in them."""

    requests: Requests
    ad: Ints
    """(n_requests, k) candidates; an ad that occurs twice in a row is shown at most once."""
    bid: Floats
    """(n_requests, k) bid per click."""
    logit: Floats
    """(n_requests, k) true logit of relevance. A policy under test must not look at it; the logging policy blurs it."""


class Policy(Protocol):
    """Scores candidates; the highest score gets the first position."""

    def score(self, auction: Auction, rng: np.random.Generator) -> Floats:
        """(n_requests, k) finite scores."""
        ...


@runtime_checkable
class KnownChances(Protocol):
    """A policy that knows with which chances its own noise puts an ad into a slot, and can log them."""

    def slot_chances(self, auction: Auction, request: Ints, candidate: Ints) -> Floats:
        """(n, slots_max): P(`auction.ad[request, candidate]` stands in slot 1, 2, ...) before the noise is drawn; 0 for slots the
        request does not have. The rest to 1 is the chance of not being shown."""
        ...


class NoisyRevenuePolicy:
    """score = skill * logit + bid_weight * ln(bid) + noise: an imperfect model ranking by expected revenue."""

    def __init__(self, config: LoggingPolicy) -> None:
        self._config = config

    def score(self, auction: Auction, rng: np.random.Generator) -> Floats:
        return self._mean(auction) + rng.normal(0, self._config.noise, auction.ad.shape)

    def slot_chances(self, auction: Auction, request: Ints, candidate: Ints) -> Floats:
        """With z the ad's own noise, each other candidate j beats it with probability a_j(z), independently: the number of those who
        do is Poisson-binomial, and its distribution is integrated over z by Gauss-Hermite quadrature."""
        from scipy.special import ndtr  # type: ignore[import-untyped]

        mean = np.where(is_repeat(auction.ad), _NEVER, self._mean(auction) / self._config.noise)[request]
        mean = mean.astype(np.float32)  # half the time, and seven digits are more than the quadrature has
        node, weight = np.polynomial.hermite_e.hermegauss(_NODES)
        own = np.take_along_axis(mean, candidate[:, None], axis=1) + node.astype(np.float32)
        slots = auction.requests.slots
        ahead = np.zeros((int(slots.max(initial=0)), *own.shape), np.float32)
        ahead[:1] = 1.0
        for other in range(mean.shape[1]):
            beats = ndtr(mean[:, other, None] - own)
            beats[candidate == other] = 0.0
            ahead[1:] += beats * (ahead[:-1] - ahead[1:])
            ahead[:1] *= 1 - beats
        chances = (ahead @ (weight / weight.sum())).T
        return np.where(np.arange(chances.shape[1]) < slots[request][:, None], chances, 0.0)

    def _mean(self, auction: Auction) -> Floats:
        return np.asarray(self._config.skill * auction.logit + self._config.bid_weight * np.log(auction.bid))


_NEVER = -1e9
"""Mean score of an ad that must not be shown again; finite, so that the difference of two of them is a number."""
_NODES = 24
"""Of the quadrature: ratios of two chances of an ad, each above 1 in 1,000, are then exact to a part in 300."""


def allocate(auction: Auction, score: Floats) -> tuple[Ints, Ints, Ints]:
    """Fill the slots by descending score.

    Returns (request, candidate, position), each (n_impressions,) and ordered by request, then position (1-based): row i of
    the log shows `auction.ad[request[i], candidate[i]]` at `position[i]`. Raises ValueError when `score` has another shape
    than the candidates or is not finite.
    """
    if score.shape != auction.ad.shape or not np.isfinite(score).all():
        raise ValueError(
            f"a policy must return finite scores of shape {auction.ad.shape}. Got shape {score.shape}, "
            f"{int((~np.isfinite(score)).sum())} of them not finite, instead."
        )
    score = np.where(is_repeat(auction.ad), -np.inf, score)
    order = np.argsort(-score, axis=1, kind="stable")[:, : int(auction.requests.slots.max(initial=0))]
    shown = np.arange(order.shape[1]) < auction.requests.slots[:, None]
    shown &= np.take_along_axis(score, order, axis=1) > -np.inf
    request, slot = np.nonzero(shown)
    return request, order[request, slot], slot + 1


def is_repeat(ad: Ints) -> np.ndarray:
    """(n, k): does the same ad stand further left in its row?"""
    order = np.argsort(ad, axis=1, kind="stable")
    ranked = np.take_along_axis(ad, order, axis=1)
    repeat = np.zeros(ad.shape, dtype=bool)
    repeat[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    out = np.empty_like(repeat)
    np.put_along_axis(out, order, repeat, axis=1)
    return out
