"""Vickrey-Clarke-Groves prices of the same auction: a reference for second prices, since under them an honest bid is the best bid.

With x_k = P(slot k is seen), falling, v_j the eCPM behind slot j (the next candidate's, at least the reserve) and m slots sold, a click in
slot k costs what the others lose by its being there:

    p_k = sum_{j=k}^{m} (x_j - x_{j+1}) v_j / (1000 x_k pctr_k),    x_{m+1} = 0

Edelman, Ostrovsky, Schwarz, AER 2007, section II; Varian, IJIO 2007. For the same bids they never exceed second prices.
"""

from __future__ import annotations

import numpy as np

from clickmill.auction.auction import AuctionRules
from clickmill.auction.slots import Sold, rank
from clickmill.errors import DataError


def vcg(
    pctr: np.ndarray,
    bid: np.ndarray,
    rules: AuctionRules,
    examination: np.ndarray,
    *,
    slots: np.ndarray | None = None,
) -> Sold:
    """Sell as `hold_many` does, at VCG prices. examination: (rules.slots or more,) P(seen) by slot, above 0 and not rising;
    `rules.pricing` is not looked at. Raises DataError as `hold_many` and for another curve."""
    ranked = rank(pctr, bid, rules, slots=slots)
    seen = checked_examination(examination, ranked.ecpm.shape[1])
    shown = ranked.candidate >= 0
    below = np.append(seen[1:], 0.0)
    last = shown & ~np.concatenate([shown[:, 1:], np.zeros((len(shown), 1), bool)], axis=1)
    step = np.where(last, seen, seen - below)
    owed = np.cumsum((step * ranked.behind)[:, ::-1], axis=1)[:, ::-1]
    sold = Sold(ranked.candidate, ranked.ecpm, np.zeros(ranked.ecpm.shape))
    clicks = 1000.0 * seen * sold.of(np.asarray(pctr, np.float64))
    price = np.divide(owed, clicks, out=np.zeros_like(owed), where=shown)
    return Sold(ranked.candidate, ranked.ecpm, np.minimum(price, sold.of(np.asarray(bid, np.float64))))


def checked_examination(examination: np.ndarray, slots: int) -> np.ndarray:
    """(slots,) float64. Raises DataError for a curve that is too short, rises, or leaves (0, 1]."""
    seen = np.asarray(examination, np.float64)[:slots]
    if seen.shape != (slots,) or not ((seen > 0) & (seen <= 1)).all() or (np.diff(seen) > 0).any():
        raise DataError(
            f"examination must be {slots} chances in (0, 1], not rising; got {np.asarray(examination).tolist()}"
        )
    return seen
