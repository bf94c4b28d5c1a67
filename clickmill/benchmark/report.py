"""The results as a table in Markdown, and as one JSON document."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.benchmark.layout import Layout
from clickmill.benchmark.suite import ModelResult
from clickmill.data import DatasetMeta

PAGE, RESULTS = "report.md", "results.json"
COLUMNS = (
    "model",
    "AUC",
    "published",
    "difference",
    "log loss",
    "published",
    "epochs",
    "seconds",
    "parameters",
)


def cells(result: ModelResult) -> tuple[str, ...]:
    """One line of the table, a text for each of `COLUMNS`; what nobody published is a dash."""
    return (
        result.model,
        f"{result.auc.value:.4f} ({result.auc.low:.4f} to {result.auc.high:.4f})",
        _published(result.published_auc),
        "-" if result.difference is None else f"{result.difference:+.4f}",
        f"{result.log_loss.value:.4f}",
        _published(result.published_log_loss),
        f"{result.epochs:g}",
        f"{result.seconds:,.0f}",
        f"{result.parameters:,}",
    )


def remarks(layout: Layout, meta: DatasetMeta) -> list[str]:
    """What a reader must know before comparing: empty when the rows are as many as published."""
    if layout.dataset is None:
        return ["No figures are published for this data set, as far as the suite knows."]
    found = {name: split.rows for name, split in meta.splits.items()}
    if found == layout.dataset.rows:
        return []
    told = ", ".join(
        f"{name} {found[name]:,} (published: {rows:,})" for name, rows in layout.dataset.rows.items()
    )
    return [
        f"These are other rows than those of {layout.dataset.name}: {told}. The difference to the published figures says little."
    ]


def markdown(layout: Layout, meta: DatasetMeta, results: Sequence[ModelResult]) -> str:
    """A page with the table and what it means."""
    name = layout.dataset.name if layout.dataset else "unpublished data"
    splits = ", ".join(f"{split} {info.rows:,}" for split, info in meta.splits.items())
    lines = [
        f"# Benchmark: {name}",
        "",
        f"Rows: {splits}. {len(layout.fields)} fields. Test split, raw models without a calibrator; the intervals are 95 % and know the",
        "chance in the test rows, not that of training. Published: the best run of BARS (https://github.com/reczoo/BARS).",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cells(result)) + " |" for result in results),
        "",
        *remarks(layout, meta),
    ]
    return "\n".join(lines).rstrip() + "\n"


def document(layout: Layout, meta: DatasetMeta, results: Sequence[ModelResult]) -> dict[str, Any]:
    """The results for machines."""
    return {
        "dataset": layout.dataset.name if layout.dataset else None,
        "files": {split: str(path) for split, path in layout.files.items()},
        "fields": list(layout.fields),
        "splits": {split: info.model_dump(mode="json") for split, info in meta.splits.items()},
        "data_digest": meta.data_digest,
        "remarks": remarks(layout, meta),
        "models": [{**result.model_dump(mode="json"), "difference": result.difference} for result in results],
    }


def write(layout: Layout, meta: DatasetMeta, results: Sequence[ModelResult], out: Path) -> None:
    """`report.md` and `results.json` in `out`, each replaced in one move."""
    texts = {
        PAGE: markdown(layout, meta, results),
        RESULTS: json.dumps(document(layout, meta, results), indent=2),
    }
    for name, text in texts.items():
        new = out / f".{name}.new"
        new.write_text(text)
        os.replace(new, out / name)


def _published(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
