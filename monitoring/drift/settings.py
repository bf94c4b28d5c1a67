"""Settings of drift detection: what is compared, and the thresholds from which on a difference counts as drift."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from monitoring.drift.measures import Measure


class DriftSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Distances are independent of the sample size: a threshold means the same at ten thousand rows and at ten million."""

    window_hours: float = Field(default=24.0, gt=0)
    """Length of the window, up to now. A day, so that morning and evening are in it as they are in the reference."""
    shown_only: bool = True
    """Of a prediction log, only rows with an impression id: a ranking scores candidates nobody sees, and the reference is of what was shown."""
    ignored: tuple[str, ...] = ()
    """Fields that are not looked at; `pctr` is the prediction."""
    psi: float = Field(default=0.2, gt=0)
    """Population stability index from which a number has drifted; the common reading is 0.1 watch, 0.2 act."""
    wasserstein: float = Field(default=0.1, gt=0)
    """Wasserstein distance, in standard deviations of the reference, from which a number has drifted. Evidently's default."""
    jensen_shannon: float = Field(default=0.1, gt=0, lt=1)
    """Jensen-Shannon distance (natural logarithm, at most 0.833) from which a category has drifted. Evidently's default."""
    numbers_by: tuple[Measure, ...] = (Measure.WASSERSTEIN, Measure.PSI)
    """Distances that judge numbers; one over its threshold is enough. Wasserstein sees a shift, PSI also a change of shape in long-tailed numbers."""
    categories_by: tuple[Measure, ...] = (Measure.JENSEN_SHANNON,)
    """Distances that judge categories, ids and list items."""
    drift_share: float = Field(default=0.3, gt=0, le=1)
    """Share of drifted fields from which the window as a whole has drifted. A drift of the prediction is enough by itself."""
    new_rise: float = Field(default=0.1, gt=0, lt=1)
    """Share of values that the reference doesn't know, above the share it would expect of itself (Good-Turing), that counts as drift."""
    least_rows: int = Field(default=1_000, ge=1)
    """Fewest rows for a verdict. Fields with many cells need more: what chance alone would give must be at most half of each threshold."""
    missing_rise: float = Field(default=0.1, gt=0, lt=1)
    """Rise of the share of missing values, in points, from which a field is broken."""
    illegal_share: float = Field(default=0.01, gt=0, lt=1)
    """Share of values that are not finite, or that the contract's `range` or `allowed` forbids, from which a field is broken."""
    broken_new_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of unknown values above what is expected from which a category is taken for renamed: broken, and not drift."""
    broken_wasserstein: float = Field(default=3.0, gt=0)
    """Wasserstein distance from which a number is taken for another quantity, such as a changed unit: broken, and not drift."""
    categories: int = Field(default=200, ge=2)
    """Distinct values up to which each has a cell of its own. Beyond, only the most frequent have."""
    top: int = Field(default=100, ge=1)
    """Of ids with more distinct values: those with a cell of their own."""
    buckets: int = Field(default=64, ge=1)
    """Cells by hash for all other ids."""
    bins: int = Field(default=200, ge=20, le=10_000)
    """Cells of a number, of equal mass in the reference. Distances are computed on them; PSI and Jensen-Shannon on ten groups of them."""
    sample_rows: int = Field(default=20_000, ge=100, le=100_000)
    """Most rows of each side that Evidently's report is made of: evenly over the window. At 5,000 chance alone took ids, with their 164
    cells, to Evidently's threshold of 0.1, and its page would have said drifted where ours says same."""
    report: Literal["evidently", "none"] = "evidently"
    """Whether Evidently's own report is written beside; about five seconds a window."""
    seed: int = Field(default=0, ge=0)
    """Of the sample."""

    @model_validator(mode="after")
    def _judged(self) -> DriftSettings:
        numeric = {Measure.PSI, Measure.JENSEN_SHANNON, Measure.WASSERSTEIN}
        if not self.numbers_by or not set(self.numbers_by) <= numeric:
            raise ValueError("numbers_by: one or more of psi, jensen_shannon, wasserstein")
        if not self.categories_by or not set(self.categories_by) <= numeric - {Measure.WASSERSTEIN}:
            raise ValueError("categories_by: one or more of psi, jensen_shannon")
        return self

    def threshold(self, measure: Measure) -> float:
        """Of a distance that judges."""
        return {
            Measure.PSI: self.psi,
            Measure.JENSEN_SHANNON: self.jensen_shannon,
            Measure.WASSERSTEIN: self.wasserstein,
        }[measure]


__all__ = ["DriftSettings"]
