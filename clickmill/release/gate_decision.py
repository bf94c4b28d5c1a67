"""What the gate says: checks with three-valued verdicts, and a decision that no doubtful check can promote."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Verdict(StrEnum):
    """What a check found."""

    PASS = "PASS"  # the whole interval is on the good side of the threshold
    FAIL = "FAIL"  # the whole interval is on the bad side
    UNKNOWN = "UNKNOWN"  # the interval holds the threshold, or there are too few data: never promotes


class Basis(StrEnum):
    """On what ground the decision stands."""

    IMPROVEMENT = "improvement"  # promoted: NE is better than the champion's, interval below zero
    NON_INFERIORITY = "non_inferiority"  # promoted: not shown better, shown not worse than the margins allow
    FLOORS = "floors"  # promoted without a champion to compare with: absolute floors only
    REFUSED = "refused"  # not promoted


class Check(BaseModel):
    """One question and its answer."""

    model_config = _FROZEN

    name: str
    """What was checked, e.g. `ne`, `ece_floor`, `slice:device=phone`."""
    verdict: Verdict
    """PASS, FAIL or UNKNOWN."""
    value: float | None = None
    """What was measured; none when it could not be."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    threshold: float | None = None
    """What it was held against."""
    reason: str
    """The verdict in words, with numbers."""
    needs: int | None = None
    """Impressions or requests that would settle an UNKNOWN check, if what comes is like what came; none when it cannot be said."""


class GateDecision(BaseModel):
    """Whether the challenger goes on. JSON round trip; cannot be built to promote against its own checks."""

    model_config = _FROZEN

    promote: bool
    """True only when there is at least one check and every check is PASS."""
    verdict: Verdict
    """FAIL if any check failed, else UNKNOWN if any is unknown (or there is none), else PASS."""
    basis: Basis
    """On what ground."""
    summary: str
    """One or two sentences for a person."""
    checks: tuple[Check, ...]
    """Every check, floors first."""
    slices_unjudged: tuple[str, ...] = ()
    """Slices with too few clicks for a guard, with their clicks."""
    rows: int
    """Impressions that both models were judged on."""
    clicks: int
    """Clicks among them."""

    @model_validator(mode="after")
    def _keeps_the_law(self) -> GateDecision:
        if self.verdict is not overall(self.checks):
            raise ValueError(f"verdict must be {overall(self.checks)} by the checks, got {self.verdict}")
        if self.promote is not (self.verdict is Verdict.PASS):
            raise ValueError(
                f"promote must be {self.verdict is Verdict.PASS} when the verdict is {self.verdict}"
            )
        if self.promote is (self.basis is Basis.REFUSED):
            raise ValueError(f"basis {self.basis} does not go with promote {self.promote}")
        return self


def overall(checks: Sequence[Check]) -> Verdict:
    """The verdict of all checks together; no check is no evidence."""
    verdicts = {check.verdict for check in checks}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    if Verdict.UNKNOWN in verdicts or not verdicts:
        return Verdict.UNKNOWN
    return Verdict.PASS
