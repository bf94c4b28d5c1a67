"""Clicks that are not known yet: what share of them there is, by the age of the impression.

A click is heard of with a delay. Of impressions that are young at the moment of learning (`as_of`), some labels of 0 are clicks still to
come: E[label | x, age] = p(x) F(age), F the distribution of the delay. F is the same for all ads here; a market in which dear ads are
clicked later wants more (Chapelle, "Modeling Delayed Feedback in Display Advertising", KDD 2014).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

Floats = npt.NDArray[np.float64]

_KNOTS = 400
LEAST_KNOWN = 0.02
"""Share of known clicks below which an age counts as this: the few clicks of the first seconds would else stand for fifty others each."""


class DelayedClicks(StrEnum):
    """What is done about clicks that are not known yet."""

    IGNORE = "ignore"  # a label of 0 is believed
    WEIGHTS = "delay_weights"  # a known click stands for 1 / F(age) clicks, and for as many non-clicks less
    FAKE_NEGATIVES = "fake_negatives"  # every impression is a non-click, a known click is a row more, and stands for 1 / F(age)


class DelayCurve(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """F(age): which share of the clicks within the attribution window is known so long after the impression."""

    seconds: tuple[float, ...] = Field(min_length=1)
    """Ages, ascending."""
    known: tuple[float, ...]
    """F at these ages, rising to 1; a step function, constant until the next age, 0 before the first."""
    clicks: int
    """Clicks it was estimated from."""

    def share_known(self, age_s: Floats) -> Floats:
        """F of ages (n,) in seconds, at least `LEAST_KNOWN`."""
        at = np.searchsorted(self.seconds, age_s, side="right")
        return np.maximum(np.concatenate([[0.0], self.known])[at], LEAST_KNOWN)


class Ripeness(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What was known at the moment of learning, for whoever learns or judges by the labels."""

    as_of: datetime
    """Clicks after it were not known."""
    later_is_ripe: bool
    """Whether impressions after it have all their clicks, as where one learns as of an earlier day; else nothing is known of them."""
    treatment: DelayedClicks
    """What is done about it."""
    curve: DelayCurve
    """How fast clicks become known."""

    def share_known(self, shown_us: npt.NDArray[np.int64]) -> Floats:
        """Of impressions shown at (n,) microseconds since 1970: which share of their clicks the labels know."""
        age = round(self.as_of.timestamp() * 1e6) - shown_us
        return np.where((age <= 0) & self.later_is_ripe, 1.0, self.curve.share_known(age / 1e6))


def fit_delays(delay_s: Floats, age_s: Floats) -> DelayCurve | None:
    """F from clicks that are known, those of young impressions included; None without clicks.

    delay_s, age_s: (clicks,) delay of each click, and the age of its impression at the moment of learning, cut to the attribution
    window; delay <= age. A young impression shows short delays only. The product-limit estimate in reversed time corrects for
    that: with d(u) clicks of delay u, and n(u) of delay <= u whose impressions are at least u old,

        F(t) = prod_{u > t} (1 - d(u) / n(u))

    Lagakos, Barraj & De Gruttola, "Nonparametric Analysis of Truncated Survival Data", Biometrika 1988. F is relative to the greatest
    age: give it impressions of the full window.
    """
    if not len(delay_s):
        return None
    delay, count = np.unique(delay_s, return_counts=True)
    # at risk at u: delay <= u <= age
    risk = np.searchsorted(np.sort(delay_s), delay, side="right") - np.searchsorted(
        np.sort(age_s), delay, side="left"
    )
    log_left = np.log1p(-np.minimum(count / risk, 1 - 1e-12))
    known = np.exp(np.append(np.cumsum(log_left[::-1])[::-1][1:], 0.0))
    knot = np.unique(np.linspace(0, len(delay) - 1, min(len(delay), _KNOTS)).round().astype(int))
    return DelayCurve(
        seconds=tuple(delay[knot].tolist()), known=tuple(known[knot].tolist()), clicks=len(delay_s)
    )


def weights(clicked: npt.NDArray[np.bool_], known: Floats, *, negatives_kept: float = 1.0) -> Floats:
    """(n,) weights under which rows with labels that are not ripe stand for rows with ripe ones, for metrics and calibrators.

        clicks 1 / F,    non-clicks (1 - p) / (1 - p F),    p = mean(clicked / F)

    negatives_kept: share of the non-clicks that is among the rows; the mean is over all of them.

    The rows of one age then hold the clicks and the non-clicks they will have, on average over the ads: among the non-clicks of a
    good ad there are more clicks to come than p says, which moves odds by (p(x) - p) (1 - F), a percent or two where clicks are rare.
    """
    rate = min(float((clicked / known).sum() / np.where(clicked, 1.0, 1.0 / negatives_kept).sum()), 1.0)
    return np.where(clicked, 1 / known, (1 - rate) / (1 - rate * known))
