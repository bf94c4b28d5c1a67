"""What a model card says: numbers turned into words and table rows, once for Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clickmill.bundle.calibration_report import CalibrationReport
from clickmill.bundle.card_tables import (
    HEADLINE,
    METRIC_WORDS,
    calibration_rows,
    field_row,
    gauc_row,
    metric_row,
    shown_fields,
    shown_slices,
    slice_row,
    split_row,
    surely_off,
    when,
    worst_first,
)
from clickmill.bundle.manifest import ExportFacts, Lineage, ModelFacts
from clickmill.contract import FeatureContract
from clickmill.evaluation import Evaluation, SliceStatus
from clickmill.models.size import in_bytes

MOST_SLICES = 25
MOST_NE_LOSS = 0.001
"""Share of NE that rounded rows may cost before the card advises against them: a tenth of what one good feature brings."""


@dataclass(frozen=True)
class CardFacts:
    """Everything a card is made of; the digest is absent because the card is one of the files it covers."""

    contract: FeatureContract
    model: ModelFacts
    summary: str
    """What the model is, in a sentence."""
    paper: str
    export: ExportFacts
    lineage: Lineage
    versions: dict[str, str]
    created: datetime
    evaluation: Evaluation
    calibration: CalibrationReport
    parameters: int
    epochs: float
    """Passes over the train split that were run; 1.5 ended in the middle of the second."""
    best_epoch: float
    """How many of them the weights that were kept had seen."""


def compose(facts: CardFacts) -> dict[str, Any]:
    """The card as plain values for the templates."""
    evaluation = facts.evaluation
    rows = [metric_row(name, evaluation) for name in METRIC_WORDS]
    return {
        "name": facts.contract.name,
        "created": when(facts.created),
        "level": f"{evaluation.level:.0%}",
        "lead": _lead(facts),
        "headline": [row for row in rows if row["name"] in HEADLINE],
        "metrics": rows + [gauc_row(name, score) for name, score in evaluation.gauc.items()],
        "has_ceiling": evaluation.ceiling is not None,
        "ceiling": _ceiling(evaluation),
        "judged_on": _judged_on(facts),
        "what": _what(facts),
        "use": _use(facts),
        "calibration": _calibration(facts),
        "calibration_steps": facts.calibration.steps,
        "calibration_rows": calibration_rows(facts.calibration),
        "candidates": [
            {"method": name, "ne": f"{ne:.5f}", "chosen": name == facts.calibration.method}
            for name, ne in sorted(facts.calibration.candidates.items(), key=lambda item: item[1])
        ],
        "slices": [slice_row(s) for s in shown_slices(evaluation.slices, MOST_SLICES)],
        "slices_note": _slices_note(evaluation),
        "data": _data(facts),
        "splits": [split_row(name, split) for name, split in facts.lineage.splits.items()],
        "fields": [field_row(name, field) for name, field in shown_fields(facts.contract)],
        "training": _training(facts),
        "limits": _limits(facts),
        "lineage": _lineage(facts),
        "usage": _usage(facts),
    }


def rows_words(export: ExportFacts) -> str:
    """How the graph stores its embedding rows and what that cost, in a sentence."""
    stored = f"embedding rows in {export.rows}: {in_bytes(export.table_bytes)}"
    if export.ne_float32 is None or export.relative_ne_loss is None:
        return stored
    worth = f"{stored} instead of {in_bytes(export.float32_bytes)}; NE {export.relative_ne_loss:+.4%} by that on the test split"
    if export.relative_ne_loss > MOST_NE_LOSS:
        return f"{worth}, more than {MOST_NE_LOSS:.1%}: export.rows=bfloat16 loses less than int8, float32 nothing"
    return worth


def _lead(facts: CardFacts) -> str:
    described = facts.contract.description.strip().rstrip(".")
    start = f"{described}. " if described else ""
    return (
        f"{start}Predicts the probability that a shown ad is clicked. Model: {facts.model.name}, "
        f"trained on impressions up to {when(_end(facts, 'train'))}, written {when(facts.created)}."
    )


def _judged_on(facts: CardFacts) -> str:
    e = facts.evaluation
    return (
        f"All numbers are from the test split: {e.n:,} impressions with {e.clicks:,} clicks (click rate {e.click_rate:.3%}), "
        f"later in time than everything the model and its calibrator have seen. Intervals are {e.level:.0%} bootstrap "
        f"intervals ({e.resamples} resamples, seed {e.seed}); a target whose bound lies inside the interval is within noise."
    )


def _ceiling(evaluation: Evaluation) -> list[str]:
    c = evaluation.ceiling
    if c is None:
        return []
    return [
        "The true click probabilities of this simulated market are known, so the best possible scores are too (ceiling): "
        f"the model is {-c.auc_gap.value:.4f} AUC and {c.normalized_entropy_gap.value:.4f} NE away from them. "
        f"Kullback-Leibler divergence from truth to model: {c.kl_divergence:.6f} nats per impression."
    ]


def _what(facts: CardFacts) -> list[str]:
    paper = f" ({facts.paper})" if facts.paper else ""
    return [
        f"{facts.summary.rstrip('.')}{paper}. {facts.parameters:,} parameters, {len(facts.contract.features)} features, "
        f"{len(facts.contract.inputs)} raw fields per request; {rows_words(facts.export)}.",
        "Encoding, model, correction of the training prior and calibration are one TensorFlow graph: a request carries raw "
        "fields and gets pctr (calibrated click probability) and logit (its log-odds). Golden predictions in the bundle "
        "prove at every load that the graph still answers as it did when it was exported.",
    ]


def _use(facts: CardFacts) -> list[str]:
    lines = [
        "Expected value of an impression in an auction (eCPM = 1000 x bid x pctr), ranking of candidates, pacing, forecasts "
        "of clicks: pctr is calibrated, so it may be multiplied and summed.",
        "Traffic like that of the data section: the same market, formats and sources of fields. A new market, format or "
        "surface needs its own run first.",
        "Not for decisions about people (credit, housing, employment, prices per person), nor as a measure of an ad's "
        "causal effect: a click probability says nothing about what would have happened without the ad.",
    ]
    if any(f.role == "position" for _, f in facts.contract):
        how = (
            "multiplies the click probability by the chance that the slot is seen"
            if facts.model.config.get("position") == "examination"
            else "enters as an additive bias"
        )
        lines.append(
            f"The position {how}. Ask for all candidates at one position (1) to rank them, and for the "
            "position an ad will really get to forecast its clicks."
        )
    return lines


def _calibration(facts: CardFacts) -> list[str]:
    kept, weight = facts.lineage.negatives_kept, facts.lineage.positive_weight
    prior = []
    if kept < 1:
        prior.append(f"only {kept:.1%} of the non-clicks were kept for training")
    if weight != 1:
        prior.append(f"a click weighed {weight:g} times in the loss")
    first = (
        f"{' and '.join(prior).capitalize()}, so the raw score is too high; the closed form takes ln(w+) and "
        "-ln(share kept) back out of the logit."
        if prior
        else "Training kept every non-click and weighed clicks like the rest, so no prior had to be corrected."
    )
    reason = facts.calibration.reason
    asked = "chosen automatically" if facts.calibration.requested == "auto" else "asked for by name"
    return [first, f"The calibrator is {facts.calibration.method!r}, {asked}: {reason}."]


def _slices_note(evaluation: Evaluation) -> str:
    if not evaluation.slices:
        return "No field has few enough values to be sliced by."
    unknown = sum(s.status is SliceStatus.UNKNOWN for s in evaluation.slices)
    shown = min(len(evaluation.slices), MOST_SLICES)
    return (
        f"{shown} of {len(evaluation.slices)} slices, first users and ads by what train knew of them, then those whose calibration ratio is off beyond its interval, then by "
        f"NE. {unknown} have too few clicks to be judged: unknown is not good."
    )


def _data(facts: CardFacts) -> str:
    kept = facts.lineage.negatives_kept
    sampled = (
        f" Train and validation keep {kept:.1%} of the non-clicks (their click rate below is that of the sample); "
        "calibration and test keep all."
        if kept < 1
        else " No split is sampled."
    )
    return f"Split by time: no row was used to learn about a row before it.{sampled}"


def _training(facts: CardFacts) -> list[tuple[str, str]]:
    settings = {**facts.model.config, **facts.model.training}
    return [
        ("model", facts.model.name),
        ("epochs run", f"{facts.epochs:g}; the weights of epoch {facts.best_epoch:g} were kept"),
        *((key.replace("_", " "), str(value)) for key, value in settings.items()),
    ]


def _limits(facts: CardFacts) -> list[str]:
    e = facts.evaluation
    lines = [
        f"It knows the market as it was until {when(_end(facts, 'calibration'))}; calibration decays first. Watch the "
        "calibration ratio and NE of live traffic and retrain when they drift.",
        "Values not seen in training share one row per field: new ads and users are predicted from everything else about them.",
        "It learned from impressions an earlier policy chose to show; what that policy never showed, it knows little about.",
    ]
    unknown = sum(s.status is SliceStatus.UNKNOWN for s in e.slices)
    if unknown:
        lines.append(f"{unknown} of {len(e.slices)} slices had too few clicks to be judged.")
    if e.clicks < 1000:
        lines.append(
            f"The test split has only {e.clicks:,} clicks: with so few, every number here is rough. Read the intervals."
        )
    off = [s for s in worst_first(e.slices) if s.status is SliceStatus.KNOWN and surely_off(s)]
    if off:
        named = ", ".join(
            f"{s.column} = {s.value} ({s.metrics['calibration_ratio'].value:.2f})" for s in off[:5]
        )
        lines.append(
            f"Calibration is off beyond chance in {len(off)} slices (ratio in brackets), the worst: {named}."
        )
    if e.ceiling is not None:
        lines.append("The data are simulated. How it would do on a real market is not known from this page.")
    personal = [name for name, field in facts.contract if field.personal]
    if personal:
        lines.append(
            f"Reads personal data ({', '.join(personal)}); they are hashed wherever predictions are logged."
        )
    return lines


def _lineage(facts: CardFacts) -> list[tuple[str, str]]:
    lineage = facts.lineage
    return [
        ("data digest", lineage.data_digest),
        ("contract digest", lineage.contract_digest),
        ("parent bundle", lineage.parent or "none, the first of its line"),
        (
            "trained from",
            f"the weights of training {lineage.started_from[:12]}" if lineage.started_from else "scratch",
        ),
        ("code version", lineage.code_version),
        ("seed", str(lineage.seed)),
        ("libraries", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]


def _usage(facts: CardFacts) -> list[dict[str, str]]:
    name = facts.contract.name
    return [
        {
            "title": "Verify every byte and replay the golden predictions",
            "language": "bash",
            "code": "clickmill bundle verify BUNDLE",
        },
        {"title": "Serve (V1, V2 REST, V2 gRPC)", "language": "bash", "code": "clickmill serve BUNDLE"},
        {
            "title": "Serve with TensorFlow Serving",
            "language": "bash",
            "code": f"tensorflow_model_server --model_name={name} --model_base_path=$PWD/BUNDLE/model",
        },
        {
            "title": "Load in Python",
            "language": "python",
            "code": "from clickmill import bundle\nfrom clickmill.features import tensors\n\n"
            'model = bundle.load("BUNDLE")\n'
            'model.predict(tensors.from_rows([{...}], model.contract))["pctr"]',
        },
        {
            "title": "Load without Clickmill",
            "language": "python",
            "code": "import tensorflow as tf\n\n"
            'graph = tf.saved_model.load("BUNDLE/model/1").signatures["serving_default"]',
        },
    ]


def _end(facts: CardFacts, split: str) -> datetime | None:
    found = facts.lineage.splits.get(split)
    return found.end if found else None
