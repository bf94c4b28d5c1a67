"""The judgement as numbers, as a confusion matrix and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from clickmill.evaluation import confusion_matrix
from components.pages import Table, Text, markdown
from components.validate_model.candidates import Candidate
from components.validate_model.judgement import Judgement


def figures_of(judged: Judgement) -> dict[str, float | None]:
    """The challenger's figures on test, and what each check measured."""
    checks = {
        f"gate_{check.name}": check.value
        for check in judged.decision.checks
        if not check.name.startswith("slice:")
    }
    return {**judged.challenger.evaluation.figures(), **checks}


def confusion_rows(judged: Judgement) -> list[list[int]]:
    """[[true negatives, false positives], [false negatives, true positives]] at the click rate.

    At the usual 0.5 a CTR model predicts no click at all; at the click rate the matrix asks which impressions are above average.
    """
    matrix = confusion_matrix(judged.y, judged.pctr, judged.challenger.evaluation.click_rate, judged.weight)
    return [
        [round(matrix.true_negatives), round(matrix.false_positives)],
        [round(matrix.false_negatives), round(matrix.true_positives)],
    ]


def reasons_page(judged: Judgement, candidates: Sequence[Candidate]) -> str:
    """Markdown: decision, checks, models."""
    decision = judged.decision
    checks = Table(
        "Checks",
        ("check", "verdict", "found", "threshold", "in words"),
        tuple((c.name, c.verdict.value, c.value, c.threshold, c.reason) for c in decision.checks),
        f"{decision.rows:,} test rows with {decision.clicks:,} clicks. Only PASS on every check promotes.",
    )
    models = Table(
        "Models, best first",
        ("model", "held-out NE", "test NE", "test AUC", "test ECE", "calibration ratio"),
        tuple(
            (
                candidate.model,
                candidate.held_out_ne,
                str(candidate.bundle.evaluation.normalized_entropy),
                str(candidate.bundle.evaluation.auc),
                str(candidate.bundle.evaluation.ece_equal_mass),
                str(candidate.bundle.evaluation.calibration_ratio),
            )
            for candidate in candidates
        ),
        "Picked by held-out NE on the calibration split; the test figures played no part in the pick.",
    )
    against = f"version {judged.champion_version}" if judged.champion_version else "no champion"
    title = ("Promote" if decision.promote else "Keep") + f": {candidates[0].model} against {against}"
    parts: list[Table | Text] = [checks, models]
    if judged.note:
        parts.insert(0, Text("Note", judged.note))
    if decision.slices_unjudged:
        parts.append(Text("Slices with too few clicks for a guard", ", ".join(decision.slices_unjudged)))
    return markdown(title, decision.summary, parts)
