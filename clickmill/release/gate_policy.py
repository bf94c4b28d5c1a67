"""How strict the gate is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GatePolicy(BaseModel):
    """Thresholds of the gate. Margins are what a challenger may be worse by; None switches a check off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    max_ne: float = Field(default=1.0, gt=0)
    """Floor: normalized entropy must be below. At 1 the model knows no more than the base rate."""
    max_ece: float | None = Field(default=0.02, gt=0)
    """Floor: expected calibration error (15 equal-mass bins) must be below, in units of probability."""
    max_calibration_bias: float | None = Field(default=0.25, gt=0)
    """Floor: the calibration ratio must be within 1 -+ this. At click rates of 1 % an ECE floor of 0.02 lets twice the
    clicks pass, this does not. At `min_clicks` 200 the interval alone is 0.14 wide to each side."""
    max_p99_ms: float | None = Field(default=None, gt=0)
    """Floor: p99 latency in milliseconds must be below. Off, because the gate seldom runs on the machine that serves."""

    ne_margin: float = Field(default=0.005, ge=0)
    """NE may exceed the champion's by this. He et al. (2014) count gains of 0.001 to 0.01 as material."""
    auc_margin: float | None = Field(default=0.005, ge=0)
    """AUC may fall short of the champion's by this."""
    ece_margin: float | None = Field(default=0.005, ge=0)
    """ECE may exceed the champion's by this: a quarter of its floor."""
    max_p99_ratio: float | None = Field(default=1.5, gt=0)
    """p99 latency over the champion's, measured on one machine in one sitting, may be at most this."""
    require_improvement: bool = False
    """Whether NE must be shown better than the champion's. Off: a fresh model that is shown not to be worse is worth having,
    since the old one decays, and with retraining every day most honest differences are within the noise."""

    slice_ne_margin: float | None = Field(default=0.02, ge=0)
    """Guard: no slice with enough clicks may be shown to have its NE worse by more than this."""
    slice_min_clicks: int = Field(default=200, ge=1)
    """Clicks (and non-clicks) a slice needs for its guard. At 200 the relative error of its log loss is about 7 %."""
    slice_top: int = Field(default=20, ge=1)
    """Values per column that have their own guard; the rest is guarded together."""

    min_clicks: int = Field(default=200, ge=1)
    """Clicks (and non-clicks) needed to judge at all; below, every check on clicks is UNKNOWN."""
    min_latency_samples: int = Field(default=400, ge=2)
    """Requests needed per model to judge p99: below 368 even the slowest is no upper 97.5 % bound of it."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Confidence level of the intervals. Slice guards share one error rate (Bonferroni)."""
    resamples: int = Field(default=400, ge=20)
    """Bootstrap resamples behind each interval of the comparisons and floors."""
