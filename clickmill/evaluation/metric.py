"""The register of metrics: name, arithmetic, direction, range and how their interval is taken.

Bootstrap, slices, gate and plots read it; a metric that stands here gets intervals, paired differences and the law tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from clickmill.errors import UsageError
from clickmill.evaluation.auc import ranked_auc
from clickmill.evaluation.calibration_error import ranked_ece_equal_mass, ranked_ece_equal_width
from clickmill.evaluation.calibration_ratio import ranked_calibration_ratio
from clickmill.evaluation.log_loss import ranked_log_loss
from clickmill.evaluation.normalized_entropy import ranked_normalized_entropy
from clickmill.evaluation.rows import Floats, Ranked


class Direction(StrEnum):
    """Which way is better."""

    HIGHER = "higher"
    LOWER = "lower"
    ONE = "one"  # nearer to 1


@dataclass(frozen=True)
class Metric:
    """One line of the register."""

    name: str
    label: str
    """How plots and reports call it."""
    of_ranked: Callable[[Ranked, Floats], float]
    """Value under weights (n,) in ranked order; NaN when undefined."""
    direction: Direction
    best: float
    lowest: float
    highest: float
    pivotal: bool = False
    """Whether the interval is 2 value - quantile instead of quantile: for statistics that chance can only raise."""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", "AUC", ranked_auc, Direction.HIGHER, 1.0, 0.0, 1.0),
        Metric("log_loss", "log loss (nats)", ranked_log_loss, Direction.LOWER, 0.0, 0.0, float("inf")),
        Metric(
            "normalized_entropy",
            "normalized entropy",
            ranked_normalized_entropy,
            Direction.LOWER,
            0.0,
            0.0,
            float("inf"),
        ),
        Metric(
            "ece_equal_mass",
            "ECE (equal mass)",
            ranked_ece_equal_mass,
            Direction.LOWER,
            0.0,
            0.0,
            1.0,
            pivotal=True,
        ),
        Metric(
            "ece_equal_width",
            "ECE (equal width)",
            ranked_ece_equal_width,
            Direction.LOWER,
            0.0,
            0.0,
            1.0,
            pivotal=True,
        ),
        Metric(
            "calibration_ratio",
            "calibration ratio",
            ranked_calibration_ratio,
            Direction.ONE,
            1.0,
            0.0,
            float("inf"),
        ),
    )
}


def metric_named(name: str) -> Metric:
    """Raises UsageError for a name that is not in the register."""
    try:
        return METRICS[name]
    except KeyError:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, got {name!r}") from None
