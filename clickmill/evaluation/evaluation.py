"""Everything that is known about one model on one set of rows, as one record that goes into the bundle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.evaluation.bootstrap import LEVEL, RESAMPLES, bootstrap, bootstrap_gauc
from clickmill.evaluation.ceiling import Ceiling, compare_with_truth
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.gauc import gauc
from clickmill.evaluation.lift import LiftRow, lift
from clickmill.evaluation.reliability import PctrHistogram, ReliabilityBin, pctr_histogram, reliability_curve
from clickmill.evaluation.roc import RocCurve, roc_curve
from clickmill.evaluation.rows import check_rows
from clickmill.evaluation.slices import MIN_CLICKS, TOP, SliceScore, evaluate_slices

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class GroupedScore(BaseModel):
    """GAUC by one kind of group."""

    model_config = _FROZEN

    estimate: Estimate
    """GAUC with its interval; groups are resampled."""
    coverage: float
    """Share of impressions in groups with both classes; the others say nothing."""
    groups: int
    """Number of such groups."""


class Evaluation(BaseModel):
    """One model on one set of rows. JSON round trip: `model_dump_json`, `model_validate_json`."""

    model_config = _FROZEN

    n: int
    """Impressions."""
    clicks: int
    """Clicks."""
    click_rate: float
    """Weighted click rate."""
    level: float
    """Confidence level of every interval."""
    resamples: int
    """Bootstrap resamples behind every interval."""
    seed: int
    """Seed of the resampling."""
    auc: Estimate
    """Ranking; 0.5 is chance, higher is better."""
    log_loss: Estimate
    """Mean surprise in nats, lower is better."""
    normalized_entropy: Estimate
    """Log loss over that of the base rate; below 1 is better than a constant."""
    ece_equal_mass: Estimate
    """Calibration error over 15 bins of equal weight."""
    ece_equal_width: Estimate
    """Calibration error over 15 bins of equal width."""
    calibration_ratio: Estimate
    """Predicted clicks over observed clicks; best is 1."""
    gauc: dict[str, GroupedScore] = {}
    """GAUC by kind of group (user, request); a kind without a group of both classes is absent."""
    slices: tuple[SliceScore, ...] = ()
    """Estimates per slice."""
    reliability: tuple[ReliabilityBin, ...]
    """15 equal-mass bins."""
    pctr_histogram: PctrHistogram
    """Spread of the predictions."""
    lift: tuple[LiftRow, ...]
    """Ten steps, best-scored first."""
    roc: RocCurve
    """At most 101 points."""
    ceiling: Ceiling | None = None
    """Against the true probabilities, where they are known."""

    def figures(self) -> dict[str, float]:
        """The headline numbers by name, without intervals: for metric stores that take one float per name."""
        figures = {
            "n": float(self.n),
            "clicks": float(self.clicks),
            "click_rate": self.click_rate,
            "auc": self.auc.value,
            "log_loss": self.log_loss.value,
            "normalized_entropy": self.normalized_entropy.value,
            "ece_equal_mass": self.ece_equal_mass.value,
            "ece_equal_width": self.ece_equal_width.value,
            "calibration_ratio": self.calibration_ratio.value,
            "lift_at_10_percent": self.lift[0].cumulative_lift,
        }
        figures |= {f"gauc_by_{name}": score.estimate.value for name, score in self.gauc.items()}
        if self.ceiling is not None:
            figures["ceiling_auc"] = self.ceiling.auc.value
            figures["ceiling_normalized_entropy"] = self.ceiling.normalized_entropy.value
        return figures


def evaluate(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    groups: Mapping[str, npt.ArrayLike] | npt.ArrayLike | None = None,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    truth: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    min_clicks: int = MIN_CLICKS,
    top: int = TOP,
) -> Evaluation:
    """Judge predictions `p` against clicks `y`; all arrays (n,).

    groups: ids for GAUC, by name ({"user": ids, "request": ids}), or one array, then called "group". slices: values by
    column. truth: true probabilities, for the ceiling. cluster: ids of what is resampled together. min_clicks, top: see
    `evaluate_slices`. Slices take half the resamples. Raises DataError for unusable arrays, UndefinedMetric with one
    class only.

    >>> evaluation = evaluate([0, 0, 0, 1] * 50, [0.1, 0.1, 0.2, 0.6] * 50)
    >>> evaluation.auc.value, evaluation.clicks
    (1.0, 50)
    """
    rows = check_rows(y, p, weight)
    overall = bootstrap(
        rows.y, rows.p, rows.weight, cluster=cluster, resamples=resamples, level=level, seed=seed
    )
    named = groups if isinstance(groups, Mapping) else {} if groups is None else {"group": groups}
    grouped = {}
    for name, ids in named.items():
        score = _grouped(rows.y, rows.p, rows.weight, ids, resamples, level, seed)
        if score is not None:
            grouped[name] = score
    return Evaluation(
        n=len(rows.y),
        clicks=int(rows.y.sum()),
        click_rate=float(np.average(rows.y, weights=rows.weight)),
        level=level,
        resamples=resamples,
        seed=seed,
        **overall,
        gauc=grouped,
        slices=evaluate_slices(
            rows.y,
            rows.p,
            slices or {},
            rows.weight,
            min_clicks=min_clicks,
            top=top,
            cluster=cluster,
            resamples=max(resamples // 2, 20),
            level=level,
            seed=seed,
        ),
        reliability=reliability_curve(rows.y, rows.p, rows.weight, level=level),
        pctr_histogram=pctr_histogram(rows.p),
        lift=lift(rows.y, rows.p, rows.weight),
        roc=roc_curve(rows.y, rows.p, rows.weight),
        ceiling=None
        if truth is None
        else compare_with_truth(
            rows.y, rows.p, truth, rows.weight, cluster=cluster, resamples=resamples, level=level, seed=seed
        ),
    )


def _grouped(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    weight: npt.ArrayLike,
    ids: npt.ArrayLike,
    resamples: int,
    level: float,
    seed: int,
) -> GroupedScore | None:
    """None where GAUC has no value: with one impression per group that is the rule, not an error."""
    from clickmill.errors import UndefinedMetric

    try:
        point = gauc(y, p, ids, weight)
    except UndefinedMetric:
        return None
    estimate = bootstrap_gauc(check_rows(y, p, weight), ids, resamples=resamples, level=level, seed=seed)
    return GroupedScore(estimate=estimate, coverage=point.coverage, groups=point.groups)
