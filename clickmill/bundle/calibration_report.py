"""What calibration did to the predictions, step by step, and why this calibrator was picked."""

from __future__ import annotations

from pydantic import BaseModel, Field

REPORT = "calibration_report.json"


class CalibrationStep(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Figures of the test split after one step; no intervals, the rows are the same in every step."""

    title: str
    """raw score, prior corrected, calibrated."""
    mean: float
    """Mean prediction; compare it with the click rate."""
    normalized_entropy: float
    log_loss: float
    ece_equal_mass: float
    ece_equal_width: float
    calibration_ratio: float


class CalibrationReport(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Goes into the bundle as calibration_report.json. JSON round trip by pydantic."""

    method: str
    """The calibrator in the graph: platt, isotonic or none."""
    requested: str
    """What was asked for: a method, or auto."""
    reason: str
    """Why this one, in words."""
    candidates: dict[str, float] = {}
    """NE on held-out folds of the calibration split by method; empty when the method was given."""
    seed: int
    """Seed of the folds."""
    click_rate: float = Field(ge=0, le=1)
    """Click rate of the test split."""
    steps: tuple[CalibrationStep, ...]
    """From the raw score to what is served."""
