"""Evidently's own report of the sampled rows: its page and its JSON."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from monitoring.drift.cells import NumberCells
from monitoring.drift.counting import Reference
from monitoring.drift.measures import Measure
from monitoring.drift.settings import DriftSettings

_METHODS = {Measure.PSI: "psi", Measure.JENSEN_SHANNON: "jensenshannon", Measure.WASSERSTEIN: "wasserstein"}
"""Our measures by Evidently's names."""


def write(
    folder: Path,
    reference: Reference,
    reference_sample: pa.Table,
    window_sample: pa.Table,
    settings: DriftSettings,
) -> tuple[str, ...]:
    """Write `evidently.html` and `evidently.json` and return the fields that are in them.

    The rows are as we measured them: numbers on their scale, rare ids as hash buckets (Evidently compares every value, so that with the
    ids themselves any two samples of one distribution differ), lists by their length. Its method and threshold for each kind are our
    first. Data drift and a summary of each column. A field without two different values on either side is left out: Evidently divides by zero.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    names = [
        name
        for name in reference_sample.column_names
        if name in window_sample.column_names
        and all(len(side.column(name).drop_null()) for side in (reference_sample, window_sample))
    ]
    numbers = [name for name in names if isinstance(reference.cells[name], NumberCells)]
    categories = [name for name in names if name not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    before, now = (
        Dataset.from_pandas(side.select(names).to_pandas(), data_definition=definition)
        for side in (reference_sample, window_sample)
    )
    by_number, by_category = settings.numbers_by[0], settings.categories_by[0]
    preset = DataDriftPreset(
        columns=names,
        drift_share=settings.drift_share,
        num_method=_METHODS[by_number],
        num_threshold=settings.threshold(by_number),
        cat_method=_METHODS[by_category],
        cat_threshold=settings.threshold(by_category),
    )
    snapshot = Report([preset, DataSummaryPreset(columns=names)]).run(now, before)
    snapshot.save_html(str(folder / "evidently.html"))
    (folder / "evidently.json").write_text(snapshot.json())
    return tuple(names)


__all__ = ["write"]
