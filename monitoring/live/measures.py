"""Computes NE, calibration with its interval, AUC and click rate from the sums of a slice. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clickmill.release import Labelled

LEAST = 20
"""Clicks, and impressions without one, below which NE, calibration and AUC are not given."""


@dataclass(frozen=True)
class Quality:
    """Of one bundle, slice and window. None: too few clicks to say."""

    impressions: int
    clicks: int
    click_rate: float | None
    mean_pctr: float | None
    normalized_entropy: float | None
    calibration_ratio: float | None
    calibration_low: float | None
    """95 % interval of the ratio, one look."""
    calibration_high: float | None
    auc: float | None


def quality(labelled: Labelled, scores: Sequence[tuple[int, int, int]]) -> Quality:
    """Figures of a slice. scores: (bin, impressions, clicks), ascending by bin.

    >>> quality(Labelled(), ()).normalized_entropy is None
    True
    """
    n, clicks = labelled.impressions, labelled.clicks
    if min(clicks, n - clicks) < LEAST:
        return Quality(n, clicks, *(clicks / n, labelled.pctr / n) if n else (None, None), *[None] * 5)
    rate = clicks / n
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    ratio = labelled.pctr / clicks
    low, high = _interval(labelled)
    return Quality(
        impressions=n,
        clicks=clicks,
        click_rate=rate,
        mean_pctr=labelled.pctr / n,
        normalized_entropy=labelled.log_loss / n / entropy,
        calibration_ratio=ratio,
        calibration_low=low,
        calibration_high=high,
        auc=auc(scores),
    )


def auc(scores: Sequence[tuple[int, int, int]]) -> float:
    """Area under the ROC curve of binned scores; scores of one bin are ties. At least one click and one without.

    >>> auc([(0, 2, 0), (1, 2, 1)])  # clicks: one in the upper bin; others: two below, one beside it
    0.8333333333333334
    """
    counts = np.asarray(scores, dtype=np.float64)
    clicks = counts[:, 2]
    others = counts[:, 1] - clicks
    below = np.concatenate([[0.0], others.cumsum()[:-1]])
    return float((clicks * (below + others / 2)).sum() / (clicks.sum() * others.sum()))


def _interval(labelled: Labelled) -> tuple[float, float | None]:
    """95 % interval of predicted over observed clicks, from the variance of pCTR - click."""
    n = labelled.impressions
    mean = (labelled.pctr - labelled.clicks) / n
    radius = 1.96 * math.sqrt(max(labelled.residual_squares / n - mean**2, 0.0) * n)
    fewest = labelled.clicks - radius
    return labelled.pctr / (labelled.clicks + radius), labelled.pctr / fewest if fewest > 0 else None


__all__ = ["LEAST", "Quality", "auc", "quality"]
