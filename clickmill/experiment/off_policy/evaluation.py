"""The verdict on a policy that has not run: estimates, how much the log can say, and whether it would beat the one that did."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clickmill.errors import DataError, UsageError
from clickmill.evaluation import Estimate
from clickmill.experiment.off_policy import intervals
from clickmill.experiment.off_policy.diagnostics import Diagnostics, diagnose
from clickmill.experiment.off_policy.estimators import Method, ratio
from clickmill.experiment.off_policy.intervals import Interval, influence, spread
from clickmill.experiment.off_policy.log import Floats, LoggedRows

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class OffPolicySettings(BaseModel):
    """How a policy is judged on another's log."""

    model_config = _FROZEN

    level: float = Field(0.95, gt=0, lt=1)
    """Confidence of the intervals."""
    interval: Interval = Interval.BOOTSTRAP
    """Which interval. Clicks are rare and weights skewed; percentiles follow that, the normal interval does not."""
    clip: float | None = Field(None, gt=0)
    """Weights are cut to this. None keeps them: unbiased. With it variance falls and the estimate is biased downwards, by how much is told."""
    reward_max: float = Field(1.0, gt=0)
    """Largest reward there can be: 1 for clicks. Bounds the bias of clipping and the Bernstein interval."""
    resamples: int = Field(1000, ge=100)
    """Draws of the bootstrap."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap."""
    min_effective_rows: float = Field(200.0, ge=0)
    """Below it the verdict is UNKNOWN: the intervals lean on the law of large numbers."""
    min_rewarded: int = Field(20, ge=1)
    """Rows with reward and weight below which the verdict is UNKNOWN: with fewer clicks no interval here holds its level."""
    max_pareto_shape: float = 0.7
    """Tail of the weights above which the verdict is UNKNOWN (Vehtari et al., JMLR 2024: means are of no use beyond)."""

    @model_validator(mode="after")
    def _bounded(self) -> OffPolicySettings:
        if self.interval is Interval.BERNSTEIN and self.clip is None:
            raise ValueError("interval `bernstein` needs a bound on the weights: set clip")
        return self


class Against(StrEnum):
    """The target beside the policy that wrote the log."""

    BETTER = "better"
    """The whole interval of the difference is above 0."""
    WORSE = "worse"
    """The whole interval of the difference is below 0."""
    UNKNOWN = "unknown"
    """The data cannot tell; the reasons say why."""


class OffPolicyResult(BaseModel):
    """What the log says about one target policy. Values are mean reward per impression."""

    model_config = _FROZEN

    logged: Estimate
    """What the logging policy earned."""
    estimates: dict[Method, Estimate]
    """What the target would have earned."""
    method: Method
    """The one the verdict goes by: DR with a reward model, else SNIPS (IPS for `bernstein`)."""
    difference: Estimate
    """Target minus logging policy by `method`, on the same rows; normal interval."""
    verdict: Against
    """Is the target better? A log that cannot say so gives UNKNOWN, whatever the interval."""
    reasons: tuple[str, ...]
    """Why UNKNOWN, in words; empty otherwise."""
    diagnostics: Diagnostics
    """What the estimates rest on."""


def evaluate(rows: LoggedRows, settings: OffPolicySettings | None = None) -> OffPolicyResult:
    """Judge the target of `rows`. DM and DR are there when the rows have a reward model.

    Raises UndefinedMetric where no row has weight or all rows are one cluster; DataError for a reward above `reward_max`.
    """
    settings = settings or OffPolicySettings()
    if rows.reward.max() > settings.reward_max:
        row = int(rows.reward.argmax())
        raise DataError(
            f"reward: row {row} has {rows.reward[row]:g}, above reward_max {settings.reward_max:g}; set the largest there can be"
        )
    found = diagnose(rows, clip=settings.clip, level=settings.level, reward_max=settings.reward_max)
    used = rows.clipped(settings.clip)
    methods = [Method.IPS, Method.SNIPS] + ([Method.DM, Method.DR] if rows.model is not None else [])
    if settings.interval is Interval.BERNSTEIN:
        methods = [Method.IPS]
    estimates = {method: _estimate(used, method, settings) for method in methods}
    method = next(m for m in (Method.DR, Method.SNIPS, Method.IPS) if m in estimates)
    difference = _against_log(used, method, settings.level)
    reasons = _doubts(found, settings)
    if not reasons and difference.low == difference.high == 0:
        reasons = (
            "the target would have shown just what the logging policy did: there is no difference to judge",
        )
    elif not reasons and difference.low <= 0 <= difference.high:
        reasons = (
            f"the difference to the logging policy may be 0: {difference.low:+.3g} to {difference.high:+.3g}",
        )
    verdict = Against.UNKNOWN if reasons else Against.BETTER if difference.value > 0 else Against.WORSE
    ones = np.ones(len(rows))
    return OffPolicyResult(
        logged=intervals.normal(rows, rows.reward, ones, settings.level),
        estimates=estimates,
        method=method,
        difference=difference,
        verdict=verdict,
        reasons=reasons,
        diagnostics=found,
    )


def compare(one: LoggedRows, other: LoggedRows, method: Method, *, level: float = 0.95) -> Estimate:
    """Value of `one`'s target minus that of `other`'s, on one log: what both have in common cancels.

    Raises UsageError when the two are not the same rows.
    """
    if not (np.array_equal(one.reward, other.reward) and np.array_equal(one.cluster, other.cluster)):
        raise UsageError(
            "two targets are compared on the same rows of one log; these rewards or clusters differ"
        )
    return _difference(one, ratio(one, method), ratio(other, method), level)


def _against_log(rows: LoggedRows, method: Method, level: float) -> Estimate:
    return _difference(rows, ratio(rows, method), (rows.reward, np.ones(len(rows))), level)


def _difference(
    rows: LoggedRows,
    one: tuple[Floats, Floats],
    other: tuple[Floats, Floats],
    level: float,
) -> Estimate:
    value = float(one[0].sum() / one[1].sum() - other[0].sum() / other[1].sum())
    reach = intervals.quantile(level) * spread(influence(rows, *one) - influence(rows, *other))
    return Estimate(value=value, low=value - reach, high=value + reach)


def _estimate(rows: LoggedRows, method: Method, settings: OffPolicySettings) -> Estimate:
    numerator, denominator = ratio(rows, method)
    if settings.interval is Interval.NORMAL:
        return intervals.normal(rows, numerator, denominator, settings.level)
    if settings.interval is Interval.BERNSTEIN:
        most = (settings.clip or 0.0) * settings.reward_max
        return intervals.bernstein(rows, numerator, most, settings.level)
    return intervals.bootstrap(
        rows, numerator, denominator, settings.level, resamples=settings.resamples, seed=settings.seed
    )


def _doubts(found: Diagnostics, settings: OffPolicySettings) -> tuple[str, ...]:
    reasons = []
    weight = found.mean_weight
    if weight.high < 1:
        reasons.append(
            f"the weights average {weight.value:.3g} ({weight.low:.3g} to {weight.high:.3g}), not 1: about {1 - weight.value:.0%} of what the "
            "target would show is never in the log (no overlap), or propensities are too high"
        )
    if weight.low > 1:
        reasons.append(
            f"the weights average {weight.value:.3g} ({weight.low:.3g} to {weight.high:.3g}), not 1: the logged propensities are too low, or "
            "the target's chances do not add up to 1"
        )
    if found.effective_rows < settings.min_effective_rows:
        reasons.append(
            f"{found.rows:,} rows are worth {found.effective_rows:,.0f} of the target's own, below {settings.min_effective_rows:g}: "
            "the two policies have too little in common"
        )
    if found.rewarded < settings.min_rewarded:
        reasons.append(f"{found.rewarded} rows have a reward and a weight, below {settings.min_rewarded}")
    if found.pareto_shape is not None and found.pareto_shape > settings.max_pareto_shape:
        reasons.append(
            f"the tail of the weights is too heavy: Pareto shape {found.pareto_shape:.2f} > {settings.max_pareto_shape:g}, the largest weight "
            f"is {found.most_weight:,.0f}; a clip trades that for a bias"
        )
    return tuple(reasons)
