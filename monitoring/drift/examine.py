"""Compares one window of rows with a bundle's reference, field by field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel

from monitoring.drift.counting import Batch, Counting, Reference
from monitoring.drift.settings import DriftSettings
from monitoring.drift.verdict import Drift, FieldDrift, Quality, judge, overall, unreadable


class WindowDrift(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One window of one bundle: what is kept as `drift.json`."""

    bundle: str
    """Digest of the bundle whose reference it was held against."""
    model: str
    """Name of its contract."""
    start: AwareDatetime | None
    """Beginning of the window; None: whatever the files hold."""
    end: AwareDatetime
    """End of the window, or when it was looked at."""
    rows: int
    """Rows of the window."""
    not_shown: int = 0
    """Rows that were left out: without an impression id (`drift.shown_only`)."""
    requests: int
    """Requests they came in."""
    reference_rows: int
    """Rows of the reference."""
    drift: Drift
    """Did the world move?"""
    quality: Quality
    """Are the values still what they were?"""
    reasons: tuple[str, ...]
    """Why."""
    fields: tuple[FieldDrift, ...]
    """By field, in the contract's order, the prediction last."""


@dataclass(frozen=True)
class Examined:
    """What came out, and the rows Evidently's report is made of."""

    found: WindowDrift
    reference_sample: pa.Table | None
    window_sample: pa.Table | None


def examine(
    reference: Reference,
    batches: Iterable[Batch],
    settings: DriftSettings,
    *,
    bundle: str,
    model: str,
    start: datetime | None,
    end: datetime,
) -> Examined:
    """Count the batches and judge. Reads them once; memory is that of one batch and a few hundred numbers a field."""
    counting = Counting(reference, settings)
    for batch in batches:
        counting.add(batch)
    fields = []
    for one in reference.watched:
        if one.name in reference.unreadable:
            fields.append(unreadable(one, reference.unreadable[one.name]))
            continue
        found = judge(
            one,
            reference.cells[one.name],
            reference.tallies[one.name],
            counting.tallies[one.name],
            deviation=reference.deviations.get(one.name, 0.0),
            draws=(reference.requests, counting.requests),
            missing_told=one.is_list or not reference.filled or one.name in reference.stand_ins,
            settings=settings,
        )
        if counting.unlogged and one.field is not None:
            words = f"{counting.unlogged:,} of {counting.rows:,} rows were logged without features (clickmill serve --log-features values)"
            found = found.model_copy(update={"reasons": (words, *found.reasons)})
        absent = counting.absent.get(one.column, 0)
        if absent:
            words = f"{absent:,} of {counting.rows:,} rows came without the column"
            found = found.model_copy(update={"reasons": (words, *found.reasons)})
        fields.append(found)
    if counting.rows:
        drift, quality, reasons = overall(fields, settings)
    else:
        drift, quality, reasons, fields = Drift.UNKNOWN, Quality.UNKNOWN, (_nothing(counting.not_shown),), []
    return Examined(
        WindowDrift(
            bundle=bundle, model=model, start=start, end=end, rows=counting.rows, not_shown=counting.not_shown, requests=counting.requests,
            reference_rows=reference.rows, drift=drift, quality=quality, reasons=reasons, fields=tuple(fields),
        ),
        reference.sample,
        counting.sample,
    )  # fmt: skip


def _nothing(not_shown: int) -> str:
    if not not_shown:
        return "no row in the window"
    return (
        f"{not_shown:,} rows, and none with an impression id: nobody knows whether they were shown. Send impression ids with the requests, "
        "or look at all rows (drift.shown_only=false)"
    )


__all__ = ["Examined", "WindowDrift", "examine"]
