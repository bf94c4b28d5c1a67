"""The course of a training run in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.pages import Table, facts, markdown


def figures_of(meta: Mapping[str, Any]) -> dict[str, float]:
    """Headline numbers of a trained model's `meta`."""
    best = _best(meta)
    return {
        "epochs": float(meta["history"][-1]["epoch"]),
        "best_epoch": float(best["epoch"]),
        "validation_normalized_entropy": best["ne"],
        "validation_auc": best["auc"],
        "samples_per_second": best["samples_per_second"],
    }


def sentence(meta: Mapping[str, Any]) -> str:
    """What came out, for the run's report."""
    best = _best(meta)
    return (
        f"best of {len(meta['history'])} evaluations is that of epoch {best['epoch']:g}: "
        f"validation NE {best['ne']:.4f}, AUC {best['auc']:.4f}"
    )


def history_page(model: str, meta: Mapping[str, Any]) -> str:
    """Markdown: the evaluations, and the settings that led to them."""
    rows = tuple(
        tuple(record[key] for key in ("epoch", "rate", "loss", "ne", "auc", "samples_per_second"))
        for record in meta["history"]
    )
    evaluations = Table(
        "Evaluations",
        ("epoch", "rate", "loss", "validation NE", "validation AUC", "samples/s"),
        rows,
        "The rate multiplies the learning rates. The loss is weighted by the weight of a click; NE and AUC are corrected for it. "
        "The weights of the best NE are kept.",
    )
    return markdown(
        f"Training of {model}",
        sentence(meta)[0].upper() + sentence(meta)[1:] + ".",
        [evaluations, facts("Model", meta["model_config"]), facts("Training", meta["training_config"])],
    )


def _best(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(record for record in meta["history"] if record["epoch"] == meta["best_epoch"])
