"""The `validate_model` step."""

from typing import Any, Dict, List  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_model(
    dataset: dsl.Input[dsl.Dataset],
    bundles: dsl.Input[List[dsl.Model]],  # noqa: UP006
    store: str,
    gate: Dict[str, Any],  # noqa: UP006
    seed: int,
    best: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    card: dsl.Output[dsl.HTML],
    reasons: dsl.Output[dsl.Markdown],
) -> str:
    """Pick the best model on the calibration split and let the gate compare it with the champion on the test split.

    The pick is by normalized entropy on held-out folds, never on test rows, so that the test figures stay honest.

    Args:
        dataset: Prepared dataset; its test split is the ground of the comparison.
        bundles: One bundle per model.
        store: Model store; its newest version is the champion. Without one the gate asks for its floors only.
        gate: Settings of the gate, such as {"max_ece": 0.02, "ne_margin": 0.005}.
        seed: Seed of the paired bootstrap.
        best: The bundle that faced the gate.
        metrics: What the gate measured.
        classification: ROC curve, and confusion matrix at the click rate.
        card: Model card of the best bundle.
        reasons: The decision, check by check, and the models beside each other.

    Returns:
        `promote` or `keep`.
    """
    import shutil
    from pathlib import Path

    from clickmill.data import PreparedDataset
    from components.metrics import log_metrics
    from components.step import step
    from components.validate_model.candidates import candidates_of
    from components.validate_model.judgement import judgement
    from components.validate_model.policy import policy_of
    from components.validate_model.views import confusion_rows, figures_of, reasons_page

    with step("validate_model") as running:
        candidates = candidates_of([(Path(item.path), item.metadata) for item in bundles])
        verdict = judgement(
            candidates[0],
            PreparedDataset.open(dataset.path),
            Path(store) if store else None,
            policy_of(gate),
            seed=seed,
            progress=running.progress,
        )
        shutil.copytree(verdict.challenger.path, best.path, dirs_exist_ok=True)
        best.metadata.update(model=candidates[0].model, digest=verdict.challenger.digest)
        evaluation = verdict.challenger.evaluation
        roc = evaluation.roc
        classification.log_roc_curve(
            list(roc.false_positive_rate), list(roc.true_positive_rate), [min(t, 1.0) for t in roc.threshold]
        )
        classification.log_confusion_matrix(["no click", "click"], confusion_rows(verdict))
        log_metrics(
            metrics,
            figures_of(verdict),
            best=candidates[0].model,
            reasons=verdict.reasons,
            gate=verdict.decision.model_dump(mode="json"),
        )
        shutil.copyfile(verdict.challenger.path / "card.html", card.path)
        Path(reasons.path).write_text(reasons_page(verdict, candidates))
        running.note(verdict.decision.summary)
        return "promote" if verdict.decision.promote else "keep"
