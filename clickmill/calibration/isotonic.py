"""Isotonic calibration on the logit: the best increasing map, as a few knots.

1. Pool adjacent violators (scikit-learn): the non-decreasing block rates that minimise squared error (the same blocks
   minimise log loss; Robertson, Wright & Dykstra 1988).
2. At most `max_knots` blocks: neighbours are pooled into groups of about equal clicks, which keeps the order.
3. One knot per block, at its mean logit and the logit of its rate, straight lines between: centered isotonic
   regression (Oron & Flournoy, "Centered Isotonic Regression", Statistics in Biopharmaceutical Research 2017). Plain isotonic
   regression is flat inside blocks, so it would throw away the ranking there; this is strictly increasing between its first and
   last knot, constant outside.

A first block without clicks has rate (0 + 1/2) / (n + 1) instead of 0 (Jeffreys), capped by the next block; the last block alike:
logits stay finite.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from clickmill.calibration.logits import Floats, LogitRows, check_logits, logit_of
from clickmill.errors import DegenerateLabels, UsageError

MAX_KNOTS = 64
"""The graph evaluates every segment for every row; 64 are cheap there and finer than any click log supports."""


class Isotonic(BaseModel):
    """Piecewise-linear, non-decreasing map of the logit; constant outside its knots."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    kind: Literal["isotonic"] = "isotonic"
    x: tuple[float, ...]
    """Logits at the knots, strictly ascending."""
    y: tuple[float, ...]
    """Calibrated logits at the knots, non-descending."""

    @model_validator(mode="after")
    def _monotone(self) -> Isotonic:
        if len(self.x) != len(self.y) or not self.x:
            raise ValueError(
                f"x and y must be as many knots, at least 1, got {len(self.x)} and {len(self.y)}"
            )
        if any(b <= a for a, b in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("x must ascend strictly")
        if any(b < a for a, b in zip(self.y, self.y[1:], strict=False)):
            raise ValueError("y must not descend")
        return self

    def __call__(self, logit: npt.ArrayLike) -> Floats:
        """(n,) to (n,), float64.

        >>> Isotonic(x=(-2, 0), y=(-3, -1))([-9, -1, 5]).tolist()
        [-3.0, -2.0, -1.0]
        """
        return np.interp(np.asarray(logit, dtype=np.float64), self.x, self.y)


def fit_isotonic(
    logit: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    max_knots: int = MAX_KNOTS,
) -> Isotonic:
    """Fit on logits (n,) and clicks (n,).

    Raises DegenerateLabels with one class only, and when one block remains: then no logit ranks above another.
    """
    if max_knots < 2:
        raise UsageError(f"max_knots must be at least 2, got {max_knots}")
    x, rate, mass = _bounded(*_blocks(check_logits(logit, y, weight)), max_knots)
    if len(x) < 2:
        raise DegenerateLabels(
            "isotonic calibration found one block: higher logits have no higher click rate"
        )
    rate = rate.copy()
    if rate[0] <= 0:
        rate[0] = min(0.5 / (mass[0] + 1), rate[1])
    if rate[-1] >= 1:
        rate[-1] = max(1 - 0.5 / (mass[-1] + 1), rate[-2])
    return Isotonic(x=tuple(x.tolist()), y=tuple(logit_of(rate).tolist()))


def _blocks(rows: LogitRows) -> tuple[Floats, Floats, Floats]:
    """Mean logit, click rate and weight of each block of equal fitted rate, ascending."""
    from sklearn.isotonic import isotonic_regression

    kept = rows.weight > 0
    value, inverse = np.unique(rows.logit[kept], return_inverse=True)
    mass = np.bincount(inverse, rows.weight[kept])
    clicks = np.bincount(inverse, rows.weight[kept] * rows.y[kept])
    fitted = isotonic_regression(clicks / mass, sample_weight=mass, y_min=0.0, y_max=1.0)
    # Pooled values are means of different sums: equal up to rounding means one block.
    start = np.flatnonzero(np.r_[True, np.diff(fitted) > 1e-12])
    total = np.add.reduceat(mass, start)
    return np.add.reduceat(mass * value, start) / total, np.add.reduceat(clicks, start) / total, total


def _bounded(x: Floats, rate: Floats, mass: Floats, most: int) -> tuple[Floats, Floats, Floats]:
    """Pool neighbouring blocks into at most `most` groups of about equal clicks; pooling keeps the rates ascending."""
    if len(x) <= most:
        return x, rate, mass
    clicks = rate * mass
    middle = np.cumsum(clicks) - clicks / 2
    group = np.minimum((most * middle / clicks.sum()).astype(np.int64), most - 1)
    start = np.flatnonzero(np.r_[True, np.diff(group) > 0])
    total = np.add.reduceat(mass, start)
    return np.add.reduceat(mass * x, start) / total, np.add.reduceat(clicks, start) / total, total
