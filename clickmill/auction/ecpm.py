"""Expected revenue per thousand impressions of a candidate that pays per click."""

from __future__ import annotations

import numpy as np

from clickmill.errors import DataError


def ecpm(pctr: np.ndarray, bid: np.ndarray) -> np.ndarray:
    """1000 pCTR x bid, (n,) float64 in currency per thousand impressions.

    pctr: (n,) calibrated click probabilities. bid: (n,) currency per click.
    Raises DataError for another number of bids than candidates, a probability outside 0 to 1, a bid below 0, NaN or infinity.
    """
    pctr, bid = np.asarray(pctr, np.float64), np.asarray(bid, np.float64)
    if pctr.ndim != 1 or pctr.shape != bid.shape:
        raise DataError(f"pctr {pctr.shape} and bid {bid.shape}: need one of each per candidate")
    _check("pctr", pctr, (pctr >= 0) & (pctr <= 1), "must lie in 0 to 1")
    _check("bid", bid, (bid >= 0) & (bid < np.inf), "must be a finite amount of at least 0")
    return 1000.0 * pctr * bid


def _check(name: str, values: np.ndarray, sound: np.ndarray, rule: str) -> None:
    if not sound.all():
        row = int((~sound).argmax())
        raise DataError(f"candidate {row}: {name} {rule}; got {values[row]:g}")
