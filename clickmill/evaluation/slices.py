"""Metrics per slice: for each value of a column its own estimate, or UNKNOWN where there are too few clicks to say.

A column of many values shows its `top` values by impressions; the rest is judged together as "(other)". Missing values are a
slice of their own, "(missing)".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.errors import DataError, UsageError
from clickmill.evaluation.bootstrap import LEVEL, bootstrap
from clickmill.evaluation.estimate import Estimate
from clickmill.evaluation.rows import Ints, check_rows

MIN_CLICKS = 100
"""At 100 clicks the standard error of the calibration ratio is 10 %: with fewer, a slice says little about a model."""
TOP = 20
SLICE_METRICS = ("auc", "normalized_entropy", "calibration_ratio", "ece_equal_mass")
OTHER, MISSING = "(other)", "(missing)"


class SliceStatus(StrEnum):
    """Whether a slice has numbers."""

    KNOWN = "KNOWN"
    UNKNOWN = "UNKNOWN"


class SliceScore(BaseModel):
    """One value of one column."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    column: str
    """Name of the column."""
    value: str
    """Its value as text; "(other)" for the values beyond the most frequent, "(missing)" for none."""
    n: int
    """Impressions."""
    clicks: int
    """Clicks."""
    share: float
    """Share of all impressions."""
    status: SliceStatus
    """UNKNOWN when there are too few clicks or non-clicks."""
    metrics: dict[str, Estimate]
    """Estimate by metric name; empty when UNKNOWN."""
    reason: str = ""
    """Why it is UNKNOWN."""


def evaluate_slices(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    slices: Mapping[str, npt.ArrayLike],
    weight: npt.ArrayLike | None = None,
    *,
    metrics: Sequence[str] = SLICE_METRICS,
    min_clicks: int = MIN_CLICKS,
    top: int = TOP,
    cluster: npt.ArrayLike | None = None,
    resamples: int = 100,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[SliceScore, ...]:
    """Slices in the order of the columns, most impressions first.

    `slices` maps a column name to (n,) values of any type. Raises DataError for a column of another length.
    """
    rows = check_rows(y, p, weight)
    clusters = None if cluster is None else np.asarray(cluster)
    scores = []
    for column, values in slices.items():
        for value, at in rows_by_value(column, values, len(rows.y), top=top):
            part = rows.take(at)
            n, clicks = len(at), int(part.y.sum())
            reason = unknown_reason(n, clicks, min_clicks, float((part.weight * part.y).sum()))
            known = (
                {}
                if reason
                else bootstrap(
                    part.y,
                    part.p,
                    part.weight,
                    metrics=metrics,
                    cluster=None if clusters is None else clusters[at],
                    resamples=resamples,
                    level=level,
                    seed=seed,
                )
            )
            scores.append(
                SliceScore(
                    column=column,
                    value=value,
                    n=n,
                    clicks=clicks,
                    share=n / len(rows.y),
                    status=SliceStatus.UNKNOWN if reason else SliceStatus.KNOWN,
                    metrics=known,
                    reason=reason,
                )
            )
    return tuple(scores)


def unknown_reason(n: int, clicks: int, min_clicks: int, click_weight: float = 1.0) -> str:
    """Why a slice cannot be judged, in words; empty when it can."""
    if clicks < min_clicks:
        return f"{clicks} clicks, {min_clicks} needed"
    if n - clicks < min_clicks:
        return f"{n - clicks} non-clicks, {min_clicks} needed"
    return "" if click_weight > 0 else "the clicks weigh nothing"


def rows_by_value(
    column: str, values: npt.ArrayLike, n: int, *, top: int = TOP
) -> Iterator[tuple[str, Ints]]:
    """The `top` most frequent values with the positions of their rows, then "(other)"; one sort for all."""
    import pandas as pd

    array = np.asarray(values)
    if array.shape != (n,):
        raise DataError(f"slice column {column} must be of shape ({n},) like y, got {array.shape}")
    if top < 1:
        raise UsageError(f"top must be at least 1, got {top}")
    codes, distinct = pd.factorize(array)
    names = [str(value) for value in distinct]
    if (codes < 0).any():
        codes = np.where(codes < 0, len(names), codes)
        names.append(MISSING)
    counts = np.bincount(codes, minlength=len(names))
    ranked = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    rank_of = np.empty(len(names), dtype=np.int64)
    rank_of[ranked] = np.minimum(np.arange(len(names)), top)
    rank = rank_of[codes]
    order = np.argsort(rank, kind="stable")
    ends = np.cumsum(np.bincount(rank))
    for i, end in enumerate(ends):
        start = 0 if i == 0 else ends[i - 1]
        yield (names[ranked[i]] if i < top else OTHER), order[start:end]
