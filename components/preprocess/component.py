"""The `preprocess` step."""

from typing import Any, Dict  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    validated: dsl.Input[dsl.Dataset],
    preparation: Dict[str, Any],  # noqa: UP006
    negatives_kept: float,
    seed: int,
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
):
    """Join clicks, split by time, sample non-clicks of the training era, and learn what the encoder needs from the train split.

    No row of a later split is older than one of an earlier split. Calibration and test are never sampled.

    Args:
        validated: Rows that keep the contract.
        preparation: How rows are joined and split, such as {"window": "24h", "fractions": {"train": 0.7, ...}}.
        negatives_kept: Share of non-clicks kept in train and validation.
        seed: Seed of the sampling.
        dataset: Train, validation, calibration and test splits, and the feature space learned from train.
        metrics: Rows, clicks and click rate by split.
        summary: The splits, what became of the clicks, and what was learned per field.
    """
    from pathlib import Path

    from clickmill import features
    from clickmill.data import CheckedLogs, prepare_checked
    from components.metrics import log_metrics
    from components.preprocess.options import options_of
    from components.preprocess.summary import figures_of, summary_page
    from components.step import step

    with step("preprocess") as running:
        prepared = prepare_checked(
            CheckedLogs.open(validated.path),
            Path(dataset.path),
            options=options_of(preparation, negatives_kept=negatives_kept, seed=seed),
            progress=running.progress,
        )
        space = features.fit(prepared)
        space.save(Path(dataset.path) / "space")
        dataset.metadata.update(validated.metadata)
        log_metrics(metrics, figures_of(prepared.meta))
        Path(summary.path).write_text(summary_page(prepared, space))
        running.note(
            f"{sum(split.rows for split in prepared.meta.splits.values()):,} rows in {len(prepared.splits)} splits"
        )
        if prepared.meta.join is not None:
            running.note(prepared.meta.join.message)
