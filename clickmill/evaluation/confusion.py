"""The confusion matrix at a threshold, for the pages of a pipeline run; clicks are too rare for it to judge a CTR model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from clickmill.errors import UsageError
from clickmill.evaluation.rows import check_rows


@dataclass(frozen=True)
class ConfusionMatrix:
    """Weights of impressions by what happened and what was predicted (p >= threshold is a predicted click)."""

    threshold: float
    true_negatives: float
    false_positives: float
    false_negatives: float
    true_positives: float


def confusion_matrix(
    y: npt.ArrayLike, p: npt.ArrayLike, threshold: float, weight: npt.ArrayLike | None = None
) -> ConfusionMatrix:
    """Arguments: (n,); threshold in [0, 1]. A sensible threshold is the base rate, not 0.5.

    >>> confusion_matrix([0, 0, 1], [0.01, 0.3, 0.2], 0.1)
    ConfusionMatrix(threshold=0.1, true_negatives=1.0, false_positives=1.0, false_negatives=0.0, true_positives=1.0)
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold must be between 0 and 1, got {threshold}")
    rows = check_rows(y, p, weight)
    predicted = rows.p >= threshold
    clicks = rows.weight * rows.y
    rest = rows.weight - clicks
    return ConfusionMatrix(
        threshold=threshold,
        true_negatives=float(rest[~predicted].sum()),
        false_positives=float(rest[predicted].sum()),
        false_negatives=float(clicks[~predicted].sum()),
        true_positives=float(clicks[predicted].sum()),
    )
