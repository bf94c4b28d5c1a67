"""Against the truth: what the best possible model would score on these rows, and how far ours is from it.

Only a simulated world knows the true click probability t of each impression. Then

    ceiling     = every metric of t itself on the same rows: no model can expect a better log loss or AUC
    KL          = sum w [t ln(t/p) + (1 - t) ln((1 - t)/(1 - p))] / sum w      nats, >= 0, 0 when p = t
    MSE         = sum w (p - t)^2 / sum w                                       >= 0

KL is the expected excess of our log loss over the ceiling's, free of the noise of the clicks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.evaluation.bootstrap import LEVEL, RESAMPLES, bootstrap, paired_bootstrap
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.rows import SMALLEST_P, check_rows

_METRICS = ("auc", "log_loss", "normalized_entropy", "ece_equal_mass")


class Ceiling(BaseModel):
    """The true probabilities judged like a model, and the model's distance from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    auc: Estimate
    """AUC of the truth."""
    log_loss: Estimate
    """Log loss of the truth, nats."""
    normalized_entropy: Estimate
    """NE of the truth."""
    ece_equal_mass: Estimate
    """ECE of the truth: what chance alone leaves on so many rows."""
    auc_gap: Estimate
    """AUC of the model minus AUC of the truth, paired."""
    normalized_entropy_gap: Estimate
    """NE of the model minus NE of the truth, paired."""
    kl_divergence: float
    """Mean Kullback-Leibler divergence from truth to model, nats."""
    mean_squared_error: float
    """Mean of (pctr - truth)^2."""


def compare_with_truth(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    truth: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    cluster: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Ceiling:
    """Arguments: (n,). Raises UndefinedMetric with one class only, DataError when truth is no probability.

    >>> compare_with_truth([0, 1] * 20, [0.25, 0.75] * 20, [0.5, 0.5] * 20).mean_squared_error
    0.0625
    """
    rows, best = check_rows(y, p, weight), check_rows(y, truth, weight)
    ceiling = bootstrap(
        y, truth, weight, metrics=_METRICS, cluster=cluster, resamples=resamples, level=level, seed=seed
    )
    gap = paired_bootstrap(
        y,
        truth,
        p,
        weight,
        metrics=("auc", "normalized_entropy"),
        cluster=cluster,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    return Ceiling(
        **ceiling,
        auc_gap=gap["auc"],
        normalized_entropy_gap=gap["normalized_entropy"],
        kl_divergence=float(np.average(_kl(best.p, rows.p), weights=rows.weight)),
        mean_squared_error=float(np.average((rows.p - best.p) ** 2, weights=rows.weight)),
    )


def _kl(t: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    t, p = (np.clip(each, SMALLEST_P, 1 - SMALLEST_P) for each in (t, p))
    # Rounding may leave -1e-17 where t = p.
    return np.maximum(t * np.log(t / p) + (1 - t) * (np.log1p(-t) - np.log1p(-p)), 0.0)
