"""What preparation made of the logs, in numbers and as a page."""

from __future__ import annotations

from clickmill.data import DatasetMeta, PreparedDataset
from clickmill.features import FeatureSpace
from components.pages import Table, facts, markdown


def figures_of(meta: DatasetMeta) -> dict[str, float]:
    """Rows, clicks and click rate by split."""
    figures: dict[str, float] = {"negatives_kept": meta.negatives_kept}
    for name, split in meta.splits.items():
        figures |= {
            f"{name}_rows": float(split.rows),
            f"{name}_clicks": float(split.clicks),
            f"{name}_click_rate": split.clicks / split.rows if split.rows else 0.0,
        }
    return figures


def summary_page(dataset: PreparedDataset, space: FeatureSpace) -> str:
    """Markdown."""
    meta = dataset.meta
    splits = Table(
        "Splits",
        ("split", "rows", "clicks", "click rate", "from (UTC)", "to (UTC)"),
        tuple(
            (
                name,
                split.rows,
                split.clicks,
                f"{split.clicks / split.rows:.3%}" if split.rows else None,
                split.start and f"{split.start:%Y-%m-%d %H:%M:%S}",
                split.end and f"{split.end:%Y-%m-%d %H:%M:%S}",
            )
            for name, split in meta.splits.items()
        ),
        _sampling(meta.negatives_kept),
    )
    learned = Table(
        "What the encoder learned from train",
        ("field", "embedding rows"),
        (
            *((slot.label, slot.rows) for slot in space.slots),
            *((name, "number, standardized") for name in space.numerics),
            *((slot.name, f"list, rows of {slot.rows_of}") for slot in space.lists),
        ),
        f"{space.table_rows:,} rows in the one table of all fields.",
    )
    parts = [splits, learned]
    if meta.join is not None:
        counts = meta.join.model_dump(exclude={"window_s", "click_log_end"})
        parts.insert(1, facts("Click log", {name.replace("_", " "): count for name, count in counts.items()}))
    return markdown("Prepared data", f"Digest of the sources: `{meta.data_digest[:16]}`.", parts)


def _sampling(kept: float) -> str:
    if kept == 1:
        return "All rows are kept."
    return f"Train and validation keep {kept:.3%} of their non-clicks, so their click rates are higher; the others keep all."
