"""The `calibrate` step."""

from typing import Any, Dict  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def calibrate(
    dataset: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    store: str,
    export: Dict[str, Any],  # noqa: UP006
    seed: int,
    bundle: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    card: dsl.Output[dsl.HTML],
):
    """Turn scores into click probabilities on rows the model has not seen, judge them on later ones, and write the bundle.

    Sampling and loss weights are undone in closed form; then none, Platt or isotonic is chosen on held-out folds.

    Args:
        dataset: Prepared dataset; its calibration and test splits are used.
        trained: The trained model.
        store: Model store; its newest version becomes the bundle's parent. May be empty.
        export: How the graph stores its embedding rows, such as {"rows": "int8"}; float32 by default.
        seed: Seed of the folds and of the bootstrap.
        bundle: The deployable model: one graph over raw fields with everything that is known about it.
        metrics: Figures of the test split, and the held-out NE by which models are compared.
        card: The model card with its plots.
    """
    import shutil
    from pathlib import Path

    from clickmill.bundle.candidate import build_bundle
    from clickmill.bundle.card_words import rows_words
    from clickmill.bundle.store import Store
    from clickmill.bundle.stored_rows import ExportConfig
    from clickmill.data import PreparedDataset
    from clickmill.training import TrainedModel
    from components.metrics import log_metrics
    from components.step import step
    from components.typed_settings import typed_settings

    with step(f"calibrate {trained.metadata['model']}") as running:
        champion = Store(store).latest_deployed() if store else None
        written = build_bundle(
            TrainedModel.load(Path(trained.path)),
            PreparedDataset.open(dataset.path),
            Path(bundle.path),
            export=typed_settings("export", ExportConfig, export),
            parent=champion.manifest.digest if champion else None,
            seed=seed,
            progress=running.progress,
        )
        report = written.calibration_report
        held_out = report.candidates[report.method]
        bundle.metadata.update(model=trained.metadata["model"], digest=written.digest, held_out_ne=held_out)
        log_metrics(metrics, {**written.evaluation.figures(), "held_out_normalized_entropy": held_out})
        shutil.copyfile(written.path / "card.html", card.path)
        running.note(report.reason)
        if written.manifest.export.ne_float32 is not None:
            running.note(rows_words(written.manifest.export))
        running.note(f"test NE {written.evaluation.normalized_entropy}, AUC {written.evaluation.auc}")
