"""What a ranking is worth: expected revenue, value to advertisers, and clicks, under the click probabilities that hold in truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clickmill.auction.slots import Sold
from clickmill.auction.vcg import checked_examination


@dataclass(frozen=True, eq=False)
class Earnings:
    """Per request, all (n,) float64, in currency unless said."""

    revenue: np.ndarray
    """What the seller gets: sum over slots of P(seen) pctr price."""
    value: np.ndarray
    """What the clicks are worth to those who get them (a bid is taken for the worth of a click): the welfare that a ranking can raise."""
    clicks: np.ndarray
    """Expected clicks."""

    @property
    def surplus(self) -> np.ndarray:
        """What advertisers keep: value minus revenue. Below 0 where they pay more than a click is worth."""
        return self.value - self.revenue


def expected(sold: Sold, pctr: np.ndarray, bid: np.ndarray, examination: np.ndarray) -> Earnings:
    """Earnings of what was sold when clicks come by `pctr` (n, k), which need not be what it was sold by.

    bid: (n, k). examination: P(seen) by slot. Raises DataError for a curve that is too short or rises.
    """
    seen = checked_examination(examination, sold.candidate.shape[1])
    clicks = seen * sold.of(np.asarray(pctr, np.float64))
    return Earnings(
        revenue=(clicks * sold.price).sum(axis=1),
        value=(clicks * sold.of(np.asarray(bid, np.float64))).sum(axis=1),
        clicks=clicks.sum(axis=1),
    )
