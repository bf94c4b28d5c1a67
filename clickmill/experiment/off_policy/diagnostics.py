"""How much a log can say about a target policy: effective rows, tails of the weights, and what the log never shows.

The weights of a log that covers its target average 1. Where the target would show what the log cannot (propensity 0), the rows it would
need are not there, and the mean weight falls short of 1 by just that share: the one trace that missing overlap leaves.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from clickmill.errors import UndefinedMetric
from clickmill.evaluation import Estimate
from clickmill.evaluation.rows import dot
from clickmill.experiment.off_policy.intervals import normal
from clickmill.experiment.off_policy.log import Floats, LoggedRows

_TAIL_LEAST = 20
"""Weights that a tail is fitted to at least: with fewer the shape says nothing."""


class Diagnostics(BaseModel):
    """Of the weights as they are, before any clipping."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rows: int
    """Impressions in the log."""
    clusters: int
    """Independent groups of them."""
    rewarded: int
    """Rows with both a reward and a weight above 0: what the estimates are made of."""
    effective_rows: float
    """sum(w)^2 / sum(w^2) (Kish): rows drawn from the target itself that would say as much about a reward of equal variance everywhere."""
    mean_weight: Estimate
    """1 where the log covers the target and its propensities are right."""
    most_weight: float
    """Largest weight."""
    top_share: float
    """Share of all weight held by the heaviest hundredth of the rows."""
    pareto_shape: float | None
    """Shape k of the tail: moments above 1 / k do not exist; beyond 0.7 means settle too slowly to be used (Vehtari et al., JMLR 2024).
    None for fewer than 100 rows with weight, or where the tail is one single weight."""
    clipped_rows: int
    """Rows whose weight is above the clip."""
    clip_missing: float
    """mean((w - clip)+ r): what clipping takes from the IPS estimate, as far as the log shows it; always downwards."""
    clip_missing_at_most: float
    """mean((w - clip)+) x largest reward: the bias of clipping if every one of those rows had the largest reward."""


def diagnose(rows: LoggedRows, *, clip: float | None, level: float, reward_max: float) -> Diagnostics:
    """Raises UndefinedMetric where every weight is 0, or there is one cluster only."""
    weight = rows.weight
    total = float(weight.sum())
    if total == 0:
        raise UndefinedMetric(
            "the target policy would have shown none of the ads in the log: every weight is 0, so nothing can be said about it"
        )
    heaviest = np.sort(weight)[-max(len(weight) // 100, 1) :]
    excess = np.maximum(weight - (np.inf if clip is None else clip), 0)
    return Diagnostics(
        rows=len(rows),
        clusters=rows.clusters,
        rewarded=int(((rows.reward > 0) & (weight > 0)).sum()),
        effective_rows=total**2 / dot(weight, weight),
        mean_weight=normal(rows, weight, np.ones(len(rows)), level),
        most_weight=float(weight.max()),
        top_share=float(heaviest.sum()) / total,
        pareto_shape=pareto_shape(weight),
        clipped_rows=int((excess > 0).sum()),
        clip_missing=float((excess * rows.reward).mean()),
        clip_missing_at_most=float(excess.mean()) * reward_max,
    )


def pareto_shape(weight: Floats) -> float | None:
    """Shape k of a generalised Pareto distribution fitted to the largest weights (n,), by Zhang & Stephens (Technometrics 2009).

    The tail is min(n / 5, 3 sqrt(n)) weights, as in Vehtari et al. (JMLR 2024), who also pull k to 0.5 by ten
    observations' worth. None below `_TAIL_LEAST` weights in the tail, or when they are all alike.
    """
    held = np.sort(weight[weight > 0])
    tail = int(min(len(held) / 5, 3 * np.sqrt(len(held))))
    if tail < _TAIL_LEAST:
        return None
    x = held[-tail:] - held[-tail - 1]
    x = x[x > 0]
    n = len(x)
    if n < _TAIL_LEAST or x[0] == x[-1]:
        return None
    # Profile likelihood of theta = -k / scale on a grid, averaged by its weight.
    m = 30 + int(np.sqrt(n))
    grid = 1 / x[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * x[max(int(n / 4 + 0.5) - 1, 0)])
    shape = np.log1p(-grid[:, None] * x).mean(axis=1)
    likelihood = n * (np.log(-grid / shape) - shape - 1)
    share = np.exp(likelihood - likelihood.max())
    theta = float(grid @ share / share.sum())
    k = float(np.log1p(-theta * x).mean())
    return (n * k + 10 * 0.5) / (n + 10)
