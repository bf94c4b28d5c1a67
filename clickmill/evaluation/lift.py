"""Lift and cumulative gain: how many of the clicks sit in the best-scored impressions.

    gain(k)  = clicks among the k highest-scored share of impressions / all clicks
    lift(k)  = gain(k) / k

Lift ranges over [0, 1/k], 1 is chance, higher is better. Rows of equal p share their clicks evenly over the cut (the
expectation over random order), so the table does not depend on the order of the rows. Undefined without clicks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.errors import UndefinedMetric, UsageError
from clickmill.evaluation.rows import Floats, Ranked, check_rows


class LiftRow(BaseModel):
    """One step of the table, best-scored impressions first."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    share: float
    """Cumulative share of impressions (by weight) up to the end of this step."""
    impressions: float
    """Weight of the impressions of this step alone."""
    clicks: float
    """Weight of the clicks of this step alone."""
    click_rate: float
    """clicks / impressions of this step."""
    mean_pctr: float
    """Mean predicted click probability of this step."""
    lift: float
    """Click rate of this step over the click rate of all."""
    cumulative_gain: float
    """Share of all clicks up to the end of this step."""
    cumulative_lift: float
    """cumulative_gain / share."""


def lift(
    y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, steps: int = 10
) -> tuple[LiftRow, ...]:
    """`steps` rows of equal weight, best first. Raises UndefinedMetric without clicks, UsageError for steps < 1.

    >>> [row.cumulative_gain for row in lift([1, 1, 0, 1], [0.9, 0.7, 0.4, 0.2], steps=2)]
    [0.6666666666666666, 1.0]
    """
    if steps < 1:
        raise UsageError(f"steps must be at least 1, got {steps}")
    rows = Ranked.of(check_rows(y, p, weight))
    share = np.arange(1, steps + 1) / steps
    mass, clicks, predicted = _cumulative_at(rows, share)
    each_mass, each_clicks, each_predicted = (
        np.diff(total, prepend=0.0) for total in (mass, clicks, predicted)
    )
    rate = clicks[-1] / mass[-1]
    return tuple(
        LiftRow(
            share=float(share[i]),
            impressions=float(each_mass[i]),
            clicks=float(each_clicks[i]),
            click_rate=float(each_clicks[i] / each_mass[i]),
            mean_pctr=float(each_predicted[i] / each_mass[i]),
            lift=float(each_clicks[i] / each_mass[i] / rate),
            cumulative_gain=float(clicks[i] / clicks[-1]),
            cumulative_lift=float(clicks[i] / clicks[-1] / share[i]),
        )
        for i in range(steps)
    )


def lift_at(y: npt.ArrayLike, p: npt.ArrayLike, share: float, weight: npt.ArrayLike | None = None) -> float:
    """Cumulative lift of the best-scored `share` of impressions, 0 < share <= 1.

    >>> lift_at([1, 0, 0, 0], [0.9, 0.3, 0.2, 0.1], 0.25)
    4.0
    """
    if not 0 < share <= 1:
        raise UsageError(f"share must be above 0 and at most 1, got {share}")
    rows = Ranked.of(check_rows(y, p, weight))
    _, clicks, _ = _cumulative_at(rows, np.array([share, 1.0]))
    return float(clicks[0] / clicks[1] / share)


def _cumulative_at(rows: Ranked, share: Floats) -> tuple[Floats, Floats, Floats]:
    """Impressions, clicks and predicted clicks in the best-scored `share`, linear inside ties."""
    starts = rows.tie_starts
    # Best first: sums of the tie runs, reversed, cumulated from 0.
    mass, clicks, predicted = (
        np.r_[0.0, np.cumsum(np.add.reduceat(each, starts)[::-1])]
        for each in (rows.weight, rows.weight * rows.y, rows.weight * rows.p)
    )
    if clicks[-1] <= 0:
        raise UndefinedMetric("lift needs at least one click, got none")
    at = share * mass[-1]
    return at, np.interp(at, mass, clicks), np.interp(at, mass, predicted)
