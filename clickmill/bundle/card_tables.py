"""The tables of a model card as plain rows of text: metrics, calibration steps, slices, splits, fields."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clickmill.bundle.calibration_report import CalibrationReport
from clickmill.bundle.manifest import SplitFacts
from clickmill.bundle.novelty import SUFFIX
from clickmill.contract import ContractField, Cross, FeatureContract, Hour, ListOf, Vocabulary, Weekday
from clickmill.evaluation import Estimate, Evaluation, GroupedScore, SliceScore, SliceStatus


@dataclass(frozen=True)
class Target:
    """What the guide asks of a metric."""

    bound: float
    above: bool

    def met_by(self, value: float) -> bool:
        return value > self.bound if self.above else value < self.bound

    def __str__(self) -> str:
        return f"{'>' if self.above else '<'} {self.bound:.2f}"


TARGETS: dict[str, Target] = {
    "auc": Target(0.78, above=True),
    "normalized_entropy": Target(0.85, above=False),
    "ece_equal_mass": Target(0.02, above=False),
}
"""The guide's targets by metric."""

METRIC_WORDS: dict[str, tuple[str, str]] = {
    "auc": ("AUC", "ranking: chance that a clicked impression scores above one that was not; 0.5 is chance"),
    "normalized_entropy": (
        "NE",
        "log loss over that of the base rate; below 1 beats a constant, 0 is perfect",
    ),
    "ece_equal_mass": ("ECE", "mean distance of predicted from observed click rate, 15 bins of equal mass"),
    "ece_equal_width": (
        "ECE, equal width",
        "the same over 15 bins of equal width: nearly all rows lie in the first",
    ),
    "calibration_ratio": ("calibration ratio", "predicted over observed clicks; best is 1"),
    "log_loss": ("log loss", "mean surprise in nats, lower is better"),
}
HEADLINE = ("auc", "normalized_entropy", "ece_equal_mass", "calibration_ratio")
_PURPOSE = {
    "train": "the weights, vocabularies and moments",
    "validation": "early stopping",
    "calibration": "the calibrator; the drift reference",
    "test": "every number on this page",
}


def worst_first(slices: tuple[SliceScore, ...]) -> list[SliceScore]:
    """Slices by how surely their calibration ratio is off, then by NE; the unknown ones last, largest first.

    The distance counted is that of 1 from the nearer end of the ratio's interval: a small slice that is off by chance
    does not push a large one that is off for sure from the top.
    """

    def key(s: SliceScore) -> tuple[float, float, float]:
        if s.status is SliceStatus.UNKNOWN:
            return (1.0, 0.0, -float(s.n))
        ratio = s.metrics["calibration_ratio"]
        surely_off = max(ratio.low - 1, 1 - ratio.high, 0.0)
        return (0.0, -surely_off, -s.metrics["normalized_entropy"].value)

    return sorted(slices, key=key)


def shown_slices(slices: tuple[SliceScore, ...], most: int) -> list[SliceScore]:
    """At most so many for the card: what is new to the model always, the others worst first."""
    new = [s for s in slices if s.column.endswith(SUFFIX)]
    return [*new, *(s for s in worst_first(slices) if s not in new)][:most]


def metric_row(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """One metric with its interval, target, verdict and ceiling."""
    title, meaning = METRIC_WORDS[name]
    estimate: Estimate = getattr(evaluation, name)
    target = TARGETS.get(name)
    met = target is None or target.met_by(estimate.value)
    ceiling = getattr(evaluation.ceiling, name, None) if evaluation.ceiling else None
    if target is not None:
        verdict = f"target {target} {'met' if met else 'missed'}"
        if estimate.low <= target.bound <= estimate.high:
            verdict += ", within noise"
    else:
        verdict = "best is 1" if name == "calibration_ratio" else ""
    return {
        "name": name,
        "title": title,
        "value": f"{estimate.value:.4f}",
        "interval": f"{estimate.low:.4f} to {estimate.high:.4f}",
        "target": str(target) if target else "",
        "met": met,
        "verdict": verdict,
        "ceiling": f"{ceiling.value:.4f}" if ceiling else "",
        "meaning": meaning,
    }


def gauc_row(name: str, score: GroupedScore) -> dict[str, Any]:
    """GAUC by one kind of group."""
    estimate = score.estimate
    return {
        "name": f"gauc_{name}",
        "title": f"GAUC by {name}",
        "value": f"{estimate.value:.4f}",
        "interval": f"{estimate.low:.4f} to {estimate.high:.4f}",
        "target": "",
        "met": True,
        "verdict": "",
        "ceiling": "",
        "meaning": f"AUC inside each {name}; {score.groups:,} of them have both classes "
        f"({score.coverage:.0%} of the impressions)",
    }


def calibration_rows(report: CalibrationReport) -> list[dict[str, Any]]:
    """Each figure after each step of the calibration."""
    names = ("normalized_entropy", "ece_equal_mass", "ece_equal_width", "calibration_ratio", "log_loss")
    rows = [
        {"title": METRIC_WORDS[name][0], "cells": [f"{getattr(step, name):.4f}" for step in report.steps]}
        for name in names
    ]
    mean = [f"{step.mean:.4%}" for step in report.steps]
    return [*rows, {"title": f"mean prediction (click rate {report.click_rate:.4%})", "cells": mean}]


def slice_row(s: SliceScore) -> dict[str, Any]:
    """One slice, with the reason where it is unknown."""
    row: dict[str, Any] = {
        "column": s.column,
        "value": s.value,
        "n": f"{s.n:,}",
        "clicks": f"{s.clicks:,}",
        "known": s.status is SliceStatus.KNOWN,
        "reason": s.reason,
    }
    if row["known"]:
        ratio = s.metrics["calibration_ratio"]
        row |= {
            "ne": f"{s.metrics['normalized_entropy'].value:.4f}",
            "auc": f"{s.metrics['auc'].value:.4f}",
            "ratio": f"{ratio.value:.3f}",
            "ratio_interval": f"{ratio.low:.3f} to {ratio.high:.3f}",
        }
    return row


def split_row(name: str, split: SplitFacts) -> dict[str, str]:
    """One split with its time bounds."""
    return {
        "name": name,
        "start": when(split.start),
        "end": when(split.end),
        "rows": f"{split.rows:,}",
        "clicks": f"{split.clicks:,}",
        "rate": f"{split.clicks / split.rows:.3%}" if split.rows else "",
        "purpose": _PURPOSE.get(name, ""),
    }


def shown_fields(contract: FeatureContract) -> list[tuple[str, ContractField]]:
    """Fields that a request carries or a model sees, in the order of the contract."""
    shown = {**contract.inputs, **contract.features}
    return [(name, field) for name, field in contract if name in shown]


def field_row(name: str, field: ContractField) -> dict[str, Any]:
    """One field of the contract in words."""
    owner = f" ({field.owner})" if field.owner else ""
    if field.is_derived:
        missing = ""
    elif field.required:
        missing = "refused"
    else:
        missing = repr(field.fill) if field.fill != () else "empty list"
    return {
        "name": name,
        "personal": field.personal,
        "role": field.role.value,
        "dtype": field.dtype.value if field.dtype else "derived",
        "encoding": _encoding(field),
        "legal": _legal(field),
        "missing": missing,
        "meaning": f"{field.description}{owner}".strip(),
    }


def _encoding(field: ContractField) -> str:
    e = field.encoding
    if e is None:
        return "position effect" if field.role == "position" else "not encoded"
    if isinstance(e, ListOf):
        inner = (
            f"shares {e.items.shares}" if isinstance(e.items, Vocabulary) and e.items.shares else e.items.kind
        )
        return f"list of {e.max_length} ({inner})"
    if isinstance(e, Cross):
        return f"cross of {' x '.join(e.of)}, {e.buckets:,} buckets"
    if isinstance(e, Hour | Weekday):
        return f"{e.kind} of {e.of}, UTC{e.utc_offset_hours:+g}"
    if isinstance(e, Vocabulary):
        return (
            f"vocabulary, shares {e.shares}" if e.shares else f"vocabulary, seen {e.min_count}x{_unseen(e)}"
        )
    detail = e.model_dump(exclude={"kind"}, exclude_none=True)
    return ", ".join(
        [
            e.kind,
            *(
                f"{value:,} {key}" if isinstance(value, int) else f"{key} {value}"
                for key, value in detail.items()
            ),
        ]
    )


def _unseen(e: Vocabulary) -> str:
    if e.unseen is None:
        return ""
    by = " x ".join(e.unseen.like) if e.unseen.like else "hash"
    return f", others in {e.unseen.buckets:,} rows by {by}"


def _legal(field: ContractField) -> str:
    if field.allowed is not None:
        shown = ", ".join(map(str, field.allowed[:8]))
        return shown + (f", ... ({len(field.allowed)} values)" if len(field.allowed) > 8 else "")
    if field.range is None:
        return "any"
    least, greatest = field.range.min, field.range.max
    if least is None:
        return f"up to {greatest:g}"
    return f"from {least:g}" if greatest is None else f"{least:g} to {greatest:g}"


def surely_off(s: SliceScore) -> bool:
    """Whether the calibration ratio is off beyond its interval."""
    ratio = s.metrics["calibration_ratio"]
    return ratio.low > 1 or ratio.high < 1


def when(moment: datetime | None) -> str:
    """A time as people read it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"
