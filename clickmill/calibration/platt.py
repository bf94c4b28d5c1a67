"""Platt scaling on the logit: two numbers, a straight line.

    logit' = slope * logit + intercept,       (slope, intercept) minimise  sum w [ln(1 + e^z') - t z']

Platt, "Probabilistic Outputs for Support Vector Machines", 1999; fitted by Newton's method with step halving (Lin, Lin & Weng,
"A Note on Platt's Probabilistic Outputs", Machine Learning 2007). Starting from a logit, the identity (1, 0) is in the
family, which it is not when Platt scaling is applied to a probability. The targets t are the labels, or with
`smoothing` Platt's t+ = (N+ + 1) / (N+ + 2) and t- = 1 / (N- + 2), which keep the slope finite on separable rows.
The slope must come out positive: calibration never turns the ranking over.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from clickmill.calibration.logits import Floats, check_logits, log_loss_of_logits, sigmoid
from clickmill.errors import DegenerateLabels

_STEPS = 100
_STEEPEST = 1e3


class Platt(BaseModel):
    """slope * logit + intercept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    kind: Literal["platt"] = "platt"
    slope: float = Field(gt=0)
    """Below 1 the model was overconfident, above 1 too timid."""
    intercept: float
    """Shift of the log odds after scaling."""

    def __call__(self, logit: npt.ArrayLike) -> Floats:
        """(n,) to (n,), float64.

        >>> Platt(slope=0.5, intercept=-1)([4.0]).tolist()
        [1.0]
        """
        return self.slope * np.asarray(logit, dtype=np.float64) + self.intercept


def fit_platt(
    logit: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, smoothing: bool = False
) -> Platt:
    """Fit on logits (n,) and clicks (n,).

    Raises DegenerateLabels with one class only, on perfectly separated classes without `smoothing`, on logits that are all
    equal, and when the best slope is not positive.
    """
    rows = check_logits(logit, y, weight)
    target = rows.y
    if smoothing:
        clicks = float((rows.weight * rows.y).sum())
        rest = float(rows.weight.sum()) - clicks
        target = np.where(rows.y > 0, (clicks + 1) / (clicks + 2), 1 / (rest + 2))
    # On standardized logits Newton's matrix is well conditioned whatever the scale of the raw score.
    centre = float(np.average(rows.logit, weights=rows.weight))
    scale = float(np.sqrt(np.average((rows.logit - centre) ** 2, weights=rows.weight)))
    if scale <= 1e-9 * max(1.0, abs(centre)):
        raise DegenerateLabels("Platt scaling needs logits that differ, got the same logit in every row")
    x = (rows.logit - centre) / scale
    rate = float(np.average(target, weights=rows.weight))
    slope, intercept = _newton(x, target, rows.weight, start=(0.0, float(np.log(rate / (1 - rate)))))
    slope, intercept = slope / scale, intercept - slope * centre / scale
    if slope <= 0:
        raise DegenerateLabels(
            f"Platt scaling found slope {slope:.3g}: clicks do not have the higher logits; the model does not rank"
        )
    return Platt(slope=slope, intercept=intercept)


def _newton(x: Floats, target: Floats, weight: Floats, start: tuple[float, float]) -> tuple[float, float]:
    theta = np.array(start)
    total = weight.sum()

    def loss_at(point: Floats) -> float:
        return float((weight * log_loss_of_logits(point[0] * x + point[1], target)).sum() / total)

    loss = loss_at(theta)
    for _ in range(_STEPS):
        q = sigmoid(theta[0] * x + theta[1])
        error = weight * (q - target) / total
        gradient = np.array([(error * x).sum(), error.sum()])
        if np.abs(gradient).max() < 1e-13:
            break
        curve = weight * q * (1 - q) / total
        cross = (curve * x).sum()
        hessian = np.array([[(curve * x**2).sum(), cross], [cross, curve.sum()]])
        # The ridge only matters where the curvature has died out (separable rows): there the steps grow until refused.
        step = np.linalg.solve(hessian + 1e-15 * np.eye(2), gradient)
        part = 1.0
        while (candidate := loss_at(theta - part * step)) > loss and part > 1e-10:
            part /= 2
        if candidate >= loss:
            break
        theta, loss = theta - part * step, candidate
        if abs(theta[0]) > _STEEPEST:
            break
    if abs(theta[0]) > _STEEPEST or loss < 1e-9:
        raise DegenerateLabels(
            "Platt scaling has no finite slope: some threshold on the logit parts clicks from non-clicks exactly; "
            "use smoothing=True or more rows"
        )
    return float(theta[0]), float(theta[1])
