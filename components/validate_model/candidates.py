"""The models of a run, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickmill.bundle.load import Bundle, load
from clickmill.errors import UsageError


@dataclass(frozen=True)
class Candidate:
    """One trained and calibrated model."""

    model: str
    """Its name."""
    held_out_ne: float
    """Normalized entropy on held-out folds of the calibration split."""
    bundle: Bundle


def candidates_of(bundles: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[Candidate]:
    """Bundles with what `calibrate` noted about each, by held-out NE, lowest first; the first given of equals leads.

    Raises UsageError without any, BundleCorrupt for one that does not verify.
    """
    if not bundles:
        raise UsageError("models: no model was trained; name at least one in `models`")
    found = [Candidate(meta["model"], float(meta["held_out_ne"]), load(path)) for path, meta in bundles]
    return sorted(found, key=lambda candidate: candidate.held_out_ne)
