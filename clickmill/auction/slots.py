"""The auction of `auction.hold` for many requests at once: one sort of a matrix instead of a sort per request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clickmill.auction.auction import AuctionRules, Pricing
from clickmill.errors import DataError


@dataclass(frozen=True, eq=False)
class Sold:
    """n requests with up to s slots each; an empty slot has candidate -1 and zeros."""

    candidate: np.ndarray
    """(n, s) int64: which of the request's candidates, best first."""
    ecpm: np.ndarray
    """(n, s) float64, currency per thousand impressions, as predicted."""
    price: np.ndarray
    """(n, s) float64, currency per click."""

    @property
    def shown(self) -> np.ndarray:
        """(n, s) bool."""
        return self.candidate >= 0

    def of(self, values: np.ndarray) -> np.ndarray:
        """(n, s): what `values` (n, k) hold for the candidates shown; 0 in empty slots."""
        return np.where(self.shown, np.take_along_axis(values, np.maximum(self.candidate, 0), axis=1), 0.0)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Sold slots before prices: what the prices are made of."""

    candidate: np.ndarray
    """(n, s) int64, -1 where empty."""
    ecpm: np.ndarray
    """(n, s)."""
    behind: np.ndarray
    """(n, s): eCPM of who comes next, at least the reserve: what has to be beaten to keep the slot; 0 where empty."""


def hold_many(
    pctr: np.ndarray, bid: np.ndarray, rules: AuctionRules, *, slots: np.ndarray | None = None
) -> Sold:
    """Sell the slots of n requests among k candidates each. pctr, bid: (n, k); a candidate that is not there has a bid of 0.

    `slots` (n,) are those of each request, at most `rules.slots`, which it is for all by default. Row by row the same as `hold`.
    Raises DataError as `hold`, and for a number of slots outside 0 to `rules.slots`.
    """
    ranked = rank(pctr, bid, rules, slots=slots)
    sold = Sold(ranked.candidate, ranked.ecpm, np.zeros(ranked.ecpm.shape))
    bids = sold.of(np.asarray(bid, np.float64))
    if rules.pricing is Pricing.FIRST:
        return Sold(ranked.candidate, ranked.ecpm, bids)
    own = 1000.0 * sold.of(np.asarray(pctr, np.float64))
    price = np.divide(ranked.behind, own, out=np.zeros_like(own), where=sold.shown)
    return Sold(ranked.candidate, ranked.ecpm, np.minimum(price, bids))


def rank(
    pctr: np.ndarray, bid: np.ndarray, rules: AuctionRules, *, slots: np.ndarray | None = None
) -> Ranked:
    """Order and what stands behind each slot; arguments and errors of `hold_many`."""
    pctr, bid = np.asarray(pctr, np.float64), np.asarray(bid, np.float64)
    if pctr.ndim != 2 or pctr.shape != bid.shape:
        raise DataError(f"pctr {pctr.shape} and bid {bid.shape}: need (requests, candidates) of each")
    _check("pctr", pctr, (pctr >= 0) & (pctr <= 1), "must lie in 0 to 1")
    _check("bid", bid, (bid >= 0) & (bid < np.inf), "must be a finite amount of at least 0")
    n, k = pctr.shape
    most = min(rules.slots, k)
    room = np.full(n, rules.slots) if slots is None else np.asarray(slots)
    if room.shape != (n,) or ((room < 0) | (room > rules.slots)).any():
        raise DataError(f"slots must be one number in 0 to {rules.slots} per request")
    value = 1000.0 * pctr * bid
    order = np.argsort(-value, axis=1, kind="stable")
    ranked = np.take_along_axis(value, order, axis=1)
    ranked = np.where((ranked >= rules.reserve) & (ranked > 0), ranked, 0.0)
    next_one = np.concatenate([ranked[:, 1:], np.zeros((n, 1))], axis=1)
    shown = (ranked > 0)[:, :most] & (np.arange(most) < room[:, None])
    return Ranked(
        candidate=np.where(shown, order[:, :most], -1),
        ecpm=np.where(shown, ranked[:, :most], 0.0),
        behind=np.where(shown, np.maximum(next_one[:, :most], rules.reserve), 0.0),
    )


def _check(name: str, values: np.ndarray, sound: np.ndarray, rule: str) -> None:
    if not sound.all():
        row, column = np.unravel_index(int((~sound).argmax()), values.shape)
        raise DataError(f"request {row}, candidate {column}: {name} {rule}; got {values[row, column]:g}")
