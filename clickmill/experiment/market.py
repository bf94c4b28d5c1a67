"""A simulated market asked what would have happened: requests whose true click probabilities are known, ranked by any scores.

The world's log shows some ads of a request in an order. Ranked otherwise, the same user would have clicked with

    P(click) = P(click | seen) examination(slot)

so the traffic of an experiment can be replayed through any two models with clicks that are true for what each of them shows. What users
learn from the experiment (histories, fatigue) is not played again: their features are those of the log.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """n candidates of many requests."""

    request: Ints
    """(n,) which request."""
    bid: Floats
    """(n,) currency per click."""
    relevance: Floats
    """(n,) true P(click | seen)."""


@dataclass(frozen=True, eq=False)
class ShownAds:
    """m impressions."""

    candidate: Ints
    """(m,) which of the candidates."""
    slot: Ints
    """(m,) from 1."""
    clicked: NDArray[np.bool_]
    revenue: Floats
    """(m,) what the click paid, 0 without one."""


def show(candidates: Candidates, pctr: Floats, examination: Floats, uniform: Floats) -> ShownAds:
    """Hold each request's auction by pCTR x bid for the slots that `examination` lists, second price, and let users click.

    pctr: (n,) of the model that ranks. examination: (slots,) P(the slot is seen). uniform: (n,) in [0, 1), one per candidate: the same for
    two models, so that what differs between them is what they show. Raises DataError for another number of scores than candidates.
    """
    if not (len(pctr) == len(uniform) == len(candidates.request) == len(candidates.bid)):
        raise DataError(
            f"{len(pctr)} scores and {len(uniform)} draws for {len(candidates.request)} candidates: need one of each"
        )
    value = pctr * candidates.bid
    order = np.lexsort((-value, candidates.request))
    request = candidates.request[order]
    first = np.flatnonzero(np.r_[True, request[1:] != request[:-1]]) if len(order) else np.zeros(0, np.int64)
    slot = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) + 1
    behind = np.r_[np.where(request[1:] == request[:-1], value[order][1:], 0.0), 0.0][: len(order)]
    kept = slot <= len(examination)
    chosen, slot, behind = order[kept], slot[kept], behind[kept]
    clicked = uniform[chosen] < candidates.relevance[chosen] * examination[slot - 1]
    price = np.minimum(behind / np.maximum(pctr[chosen], 1e-12), candidates.bid[chosen])
    return ShownAds(chosen, slot, clicked, np.where(clicked, price, 0.0))


def expected(candidates: Candidates, pctr: Floats, examination: Floats) -> tuple[float, float]:
    """(clicks, impressions) expected when all requests are ranked by these scores: the truth that an experiment estimates."""
    shown = show(candidates, pctr, examination, np.zeros(len(pctr)))
    return float((candidates.relevance[shown.candidate] * examination[shown.slot - 1]).sum()), float(
        len(shown.candidate)
    )


__all__ = ["Candidates", "ShownAds", "expected", "show"]
