"""Which of the candidate ads are shown, and in which order: the logging policy and the seam for another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


class NoisyRevenuePolicy:
    """score = skill * logit + bid_weight * ln(bid) + noise: an imperfect model ranking by expected revenue."""

    def __init__(self, config: LoggingPolicy) -> None:
        self._config = config

    def score(self, auction: Auction, rng: np.random.Generator) -> Floats:
        noise = rng.normal(0, self._config.noise, auction.ad.shape)
        return np.asarray(
            self._config.skill * auction.logit + self._config.bid_weight * np.log(auction.bid) + noise
        )


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
    score = np.where(_is_repeat(auction.ad), -np.inf, score)
    order = np.argsort(-score, axis=1, kind="stable")[:, : int(auction.requests.slots.max(initial=0))]
    shown = np.arange(order.shape[1]) < auction.requests.slots[:, None]
    shown &= np.take_along_axis(score, order, axis=1) > -np.inf
    request, slot = np.nonzero(shown)
    return request, order[request, slot], slot + 1


def _is_repeat(ad: Ints) -> np.ndarray:
    """(n, k): does the same ad stand further left in its row?"""
    order = np.argsort(ad, axis=1, kind="stable")
    ranked = np.take_along_axis(ad, order, axis=1)
    repeat = np.zeros(ad.shape, dtype=bool)
    repeat[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    out = np.empty_like(repeat)
    np.put_along_axis(out, order, repeat, axis=1)
    return out
