"""From tallies to verdicts of three values. Pure: the same tallies and settings, the same verdict.

Drift and quality are two questions. Drift asks whether the world moved: retraining helps. Quality asks whether values still mean what
they meant: a column that is empty, renamed or in another unit must be mended, and never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from pydantic import BaseModel

from monitoring.drift.cells import CategoryCells, Cells, NumberCells, Tally
from monitoring.drift.fields import PREDICTION, Watched
from monitoring.drift.measures import (
    Measure,
    jensen_shannon,
    kolmogorov_smirnov,
    most_variance,
    psi,
    wasserstein,
)
from monitoring.drift.settings import DriftSettings


class Drift(StrEnum):
    """Whether a distribution moved."""

    SAME = "same"  # every distance that judges is under its threshold
    DRIFTED = "drifted"  # one of them is not
    UNKNOWN = "unknown"  # too few rows to tell, or nothing to compare with


class Quality(StrEnum):
    """Whether values still are what they were."""

    SOUND = "sound"  # there, legal, and of the same kind
    BROKEN = "broken"  # missing, illegal, renamed, or another quantity
    UNKNOWN = "unknown"  # too few rows to tell, or nothing to compare with


class Bar(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One cell of a field, for people."""

    label: str
    """A value, or an interval."""
    reference: float
    """Share of it in the reference."""
    window: float
    """Share of it in the window."""


class FieldDrift(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One field."""

    field: str
    """Name in the contract; `FIELD.length` of a list; `pctr`."""
    kind: str
    """number or category."""
    drift: Drift
    """Did it move?"""
    quality: Quality
    """Is it still what it was?"""
    reasons: tuple[str, ...] = ()
    """Why it is not `same` and `sound`, a sentence each."""
    values: int = 0
    """Values behind the distances."""
    measures: dict[Measure, float] = {}
    """What was measured; what can't be told is left out."""
    bars: tuple[Bar, ...] = ()
    """Up to a dozen cells."""


def unreadable(one: Watched, reason: str) -> FieldDrift:
    """Nothing can be said of a field."""
    return FieldDrift(
        field=one.name, kind=one.kind, drift=Drift.UNKNOWN, quality=Quality.UNKNOWN, reasons=(reason,)
    )


def judge(
    one: Watched,
    cells: Cells,
    reference: Tally,
    window: Tally,
    *,
    deviation: float,
    draws: tuple[int, int],
    missing_told: bool,
    settings: DriftSettings,
) -> FieldDrift:
    """A field by its two tallies.

    deviation: of the reference's values; numbers only. draws: requests behind reference and window, which are what is independent where
    the candidates of a request share the value. missing_told: whether missing values can be told from others.
    """
    measures = _shares(cells, reference, window, missing_told)
    quality, reasons = _quality(measures, window, draws[1], settings)
    m, n = (
        min(tally.present, tally.rows, count if one.shared else tally.rows)
        for tally, count in zip((reference, window), draws, strict=True)
    )
    if not reference.present or not window.present:
        reason = "no value in the window" if reference.present else "no value in the reference"
        return FieldDrift(
            field=one.name, kind=one.kind, drift=Drift.UNKNOWN, quality=quality, reasons=(*reasons, reason),
            values=window.present, measures=measures,
        )  # fmt: skip
    coarse = _coarse(cells, reference), _coarse(cells, window)
    measures |= _distances(cells, reference, window, coarse, deviation)
    if quality is not Quality.UNKNOWN:
        strange = _another(one, measures, settings)
        if strange:
            quality, reasons = Quality.BROKEN, (*reasons, strange)
    judging = settings.numbers_by if isinstance(cells, NumberCells) else settings.categories_by
    needed = _needed(judging, len(coarse[0]), m, settings)
    if n < needed:
        drawn = "requests, whose rows share the value" if one.shared else "values"
        more = (
            f"the reference is too small for {len(coarse[0])} cells: no window suffices"
            if math.isinf(needed)
            else f"{n:,} {drawn}, {math.ceil(needed) - n:,} more are needed"
        )
        drift = Drift.UNKNOWN
        why: tuple[str, ...] = (more,)
    else:
        why = _moved(judging, measures, settings)
        drift = Drift.DRIFTED if why else Drift.SAME
    return FieldDrift(
        field=one.name,
        kind=one.kind,
        drift=drift,
        quality=quality,
        reasons=(*reasons, *why),
        values=window.present,
        measures={name: value for name, value in measures.items() if math.isfinite(value)},
        bars=_bars(cells, *coarse),
    )


def overall(fields: Sequence[FieldDrift], settings: DriftSettings) -> tuple[Drift, Quality, tuple[str, ...]]:
    """The window as a whole, with reasons.

    Drifted: the prediction, or `drift_share` of the fields, whatever the unknown ones would be. Same: neither, whatever they would be.
    Broken: any field. Knowing more of a field can turn unknown into a verdict, and never one verdict into the other.
    """
    inputs = [f for f in fields if f.field != PREDICTION]
    prediction = next((f for f in fields if f.field == PREDICTION), None)
    moved = [f.field for f in inputs if f.drift is Drift.DRIFTED]
    unknown = [f.field for f in inputs if f.drift is Drift.UNKNOWN]
    of = len(inputs)
    reasons = []
    if prediction is not None and prediction.drift is Drift.DRIFTED:
        reasons.append(f"the prediction moved: {', '.join(prediction.reasons)}")
    if of and len(moved) >= settings.drift_share * of:
        reasons.append(f"{len(moved)} of {of} fields moved: {_named(moved)}")
    unsettled = bool(of) and len(moved) + len(unknown) >= settings.drift_share * of and bool(unknown)
    if reasons:
        drift = Drift.DRIFTED
    elif unsettled or not fields or (prediction is not None and prediction.drift is Drift.UNKNOWN):
        drift = Drift.UNKNOWN
        reasons.append(
            f"{len(unknown)} of {of} fields can't be judged: {_named(unknown)}"
            if unknown
            else "the prediction can't be judged"
        )
    else:
        drift = Drift.SAME
    broken = [f.field for f in fields if f.quality is Quality.BROKEN]
    if broken:
        return drift, Quality.BROKEN, (*reasons, f"broken: {_named(broken)}")
    sound = bool(fields) and all(f.quality is Quality.SOUND for f in fields)
    return drift, Quality.SOUND if sound else Quality.UNKNOWN, tuple(reasons)


def _named(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _shares(cells: Cells, reference: Tally, window: Tally, missing_told: bool) -> dict[Measure, float]:
    found = {}
    if missing_told and window.rows and reference.rows:
        found[Measure.MISSING] = window.missing / window.rows
        found[Measure.MISSING_REFERENCE] = reference.missing / reference.rows
    seen = window.present + window.not_finite
    if seen:
        found[Measure.ILLEGAL] = window.illegal / seen
        if isinstance(cells, NumberCells):
            found[Measure.NOT_FINITE] = window.not_finite / seen
        else:
            found[Measure.NEW] = window.new / seen
            found[Measure.NEW_EXPECTED] = cells.expected_new
    return found


def _quality(
    measures: dict[Measure, float], window: Tally, draws: int, settings: DriftSettings
) -> tuple[Quality, tuple[str, ...]]:
    if min(window.rows, draws) < settings.least_rows:
        return Quality.UNKNOWN, ()
    reasons = []
    missing, before = (measures.get(m, 0.0) for m in (Measure.MISSING, Measure.MISSING_REFERENCE))
    if missing - before >= settings.missing_rise:
        reasons.append(f"{missing:.1%} missing, {before:.1%} in the reference")
    for measure, words in (
        (Measure.ILLEGAL, "forbidden by the contract"),
        (Measure.NOT_FINITE, "not finite"),
    ):
        share = measures.get(measure, 0.0)
        if share >= settings.illegal_share:
            reasons.append(f"{share:.1%} {words}")
    return Quality.BROKEN if reasons else Quality.SOUND, tuple(reasons)


def _another(one: Watched, measures: dict[Measure, float], settings: DriftSettings) -> str | None:
    """What says that the values are of another kind."""
    unknown = measures.get(Measure.NEW, 0.0) - measures.get(Measure.NEW_EXPECTED, 0.0)
    if unknown >= settings.broken_new_share:
        cause = "renamed, or another salt than that of the log" if one.personal else "renamed"
        return f"{measures[Measure.NEW]:.1%} of the values are not in the reference, {measures[Measure.NEW_EXPECTED]:.1%} expected: {cause}?"
    moved = measures.get(Measure.WASSERSTEIN, 0.0)
    if moved >= settings.broken_wasserstein:
        return f"moved by {moved:.3g} standard deviations of the reference: another unit?"
    return None


def _distances(
    cells: Cells, reference: Tally, window: Tally, coarse: tuple[np.ndarray, np.ndarray], deviation: float
) -> dict[Measure, float]:
    found = {Measure.PSI: psi(*coarse), Measure.JENSEN_SHANNON: jensen_shannon(*coarse)}
    if isinstance(cells, NumberCells):
        before, now = (tally.sums / np.maximum(tally.counts, 1) for tally in (reference, window))
        found[Measure.WASSERSTEIN] = wasserstein(reference.counts, window.counts, before, now, deviation)
        found[Measure.KS], found[Measure.KS_PVALUE] = kolmogorov_smirnov(reference.counts, window.counts)
    return found


def _coarse(cells: Cells, tally: Tally) -> np.ndarray:
    return cells.grouped(tally.counts) if isinstance(cells, NumberCells) else tally.counts


def _needed(judging: Sequence[Measure], cells: int, m: int, settings: DriftSettings) -> float:
    """Independent values a window needs so that chance alone gives half of each threshold; infinite where the reference is too small."""
    variance = min(most_variance(measure, cells, settings.threshold(measure) / 2) for measure in judging)
    left = variance - 1 / m
    return max(settings.least_rows, 1 / left) if left > 0 else math.inf


def _moved(
    judging: Sequence[Measure], measures: dict[Measure, float], settings: DriftSettings
) -> tuple[str, ...]:
    reasons = [
        f"{measure} {measures[measure]:.3g} >= {settings.threshold(measure):g}"
        for measure in judging
        if measures[measure] >= settings.threshold(measure)
    ]
    new, expected = measures.get(Measure.NEW, 0.0), measures.get(Measure.NEW_EXPECTED, 0.0)
    if new - expected >= settings.new_rise:
        reasons.append(f"{new:.1%} of the values are new, {expected:.1%} expected")
    return tuple(reasons)


def _bars(cells: Cells, reference: np.ndarray, window: np.ndarray, most: int = 12) -> tuple[Bar, ...]:
    labels = cells.labels()
    p, q = reference / reference.sum(), window / window.sum()
    order = np.arange(len(labels))
    if isinstance(cells, CategoryCells):
        order = np.argsort(-np.maximum(p, q), kind="stable")[:most]
    return tuple(Bar(label=labels[i], reference=float(p[i]), window=float(q[i])) for i in order)


__all__ = ["Bar", "Drift", "FieldDrift", "Quality", "judge", "overall", "unreadable"]
