"""What an analysis found, as data: JSON round trip, no computation. The report, the command, the kfp step and the exporter show it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from clickmill.experiment.spec import ExperimentSpec
from clickmill.release import Check, Verdict

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ArmFigures(BaseModel):
    """Sums of one arm."""

    model_config = _FROZEN

    arm: str
    users: int
    impressions: int
    clicks: int
    values: dict[str, float]
    """Metric by name, as measured (not adjusted); metrics without a value are left out."""


class Effect(BaseModel):
    """A metric of a treatment beside the control's. Lifts are relative: 0.02 is 2 % more."""

    model_config = _FROZEN

    metric: str
    treatment: str
    control_value: float
    """Adjusted for what was before, where there is a before."""
    treatment_value: float
    difference: float
    """Treatment - control, in the metric's unit."""
    difference_low: float
    """Ends of its always-valid interval."""
    difference_high: float
    lift: float
    low: float
    """Ends of its always-valid interval."""
    high: float
    once_low: float
    """Ends of its interval for one look."""
    once_high: float
    p_any_time: float
    p_once: float
    variance_kept: float
    """Variance of the lift beside that without adjustment; 0.7 saves 30 % of the traffic."""


class Look(BaseModel):
    """The experiment as it stood then."""

    model_config = _FROZEN

    at: datetime
    users: dict[str, int]
    sample_ratio_p: float
    """Always-valid p-value of the split so far."""
    effects: dict[str, Effect]
    """Of the primary metric, by treatment; empty while there are too few clicks."""


class Suspect(BaseModel):
    """A slice in which the split is off."""

    model_config = _FROZEN

    column: str
    value: str
    users: dict[str, int]
    q: float


class SampleRatio(BaseModel):
    """Whether each arm has the users it should have."""

    model_config = _FROZEN

    users: dict[str, int]
    expected: dict[str, float]
    chi_square_p: float
    """For one look."""
    any_time_p: float
    """Over all looks; below `spec.srm_alpha` the split is broken."""
    sound: bool
    suspects: tuple[Suspect, ...] = ()
    """Where it is off, most so first; searched for only when the split is broken."""


class SliceEffect(BaseModel):
    """The primary metric in one slice."""

    model_config = _FROZEN

    column: str
    value: str
    treatment: str
    impressions: int
    clicks: int
    lift: float
    low: float
    high: float
    against_rest: float
    """Lift here - lift elsewhere."""
    q: float
    """Always-valid p-value of that difference, corrected for the number of slices (Benjamini-Hochberg)."""


class DayEffect(BaseModel):
    """The primary metric on one day, or one weekday; intervals for one look at 95 %."""

    model_config = _FROZEN

    label: str
    treatment: str
    impressions: int
    lift: float
    low: float
    high: float


class Trend(BaseModel):
    """How the lift moved from day to day."""

    model_config = _FROZEN

    treatment: str
    per_day: float
    """Change of the lift a day."""
    p: float
    """Of no change, for one look."""


class Conclusion(BaseModel):
    """Is this treatment better than the control? PASS: yes. FAIL: no, or not enough to matter. UNKNOWN: these data can't say."""

    model_config = _FROZEN

    treatment: str
    verdict: Verdict
    headline: str
    """For people."""
    reason: str
    """Why."""
    advice: str
    """What next."""
    needs: int | None = None
    """Impressions in all arms until it is settled, if what comes is like what came."""
    checks: tuple[Check, ...] = ()


class Analysis(BaseModel):
    """All that is known of an experiment at a moment."""

    model_config = _FROZEN

    spec: ExperimentSpec
    start: datetime
    until: datetime
    """Of the last impression."""
    arms: tuple[ArmFigures, ...]
    sample_ratio: SampleRatio
    effects: tuple[Effect, ...]
    looks: tuple[Look, ...]
    slices: tuple[SliceEffect, ...] = ()
    unjudged: tuple[str, ...] = ()
    """Slices with too few clicks."""
    days: tuple[DayEffect, ...] = ()
    weekdays: tuple[DayEffect, ...] = ()
    trends: tuple[Trend, ...] = ()
    conclusions: tuple[Conclusion, ...]
    caveats: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """PASS when a treatment is shown to be better, FAIL when none is and all are shown not to be, else UNKNOWN."""
        found = {conclusion.verdict for conclusion in self.conclusions}
        if Verdict.PASS in found:
            return Verdict.PASS
        return Verdict.UNKNOWN if Verdict.UNKNOWN in found else Verdict.FAIL

    @property
    def best(self) -> Conclusion:
        """The conclusion that decides: of the treatment with that verdict whose primary metric is highest."""
        lifts = {e.treatment: e.lift for e in self.effects if e.metric == self.spec.primary}
        sign = 1 if self.spec.metric(self.spec.primary).goal == "up" else -1
        those = [c for c in self.conclusions if c.verdict is self.verdict]
        return max(those, key=lambda c: sign * lifts.get(c.treatment, 0.0))

    def effect(self, metric: str, treatment: str) -> Effect | None:
        """Of a metric; None while there are too few clicks."""
        return next((e for e in self.effects if (e.metric, e.treatment) == (metric, treatment)), None)

    @property
    def impressions(self) -> int:
        """In all arms."""
        return sum(arm.impressions for arm in self.arms)


__all__ = [
    "Analysis", "ArmFigures", "Conclusion", "DayEffect", "Effect", "Look", "SampleRatio", "SliceEffect", "Suspect", "Trend",
]  # fmt: skip
