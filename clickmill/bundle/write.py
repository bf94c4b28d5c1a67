"""Write a bundle: every part in a temp folder, the manifest last, then one rename."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.bundle import card, golden, priors, reference, requests, warmup
from clickmill.bundle import manifest as manifests
from clickmill.bundle.calibration_report import REPORT, CalibrationReport
from clickmill.bundle.card_words import CardFacts
from clickmill.bundle.code_version import code_version
from clickmill.bundle.durable import is_vacant, whole_folder
from clickmill.bundle.export import PCTR, export
from clickmill.bundle.graph import ClickGraph
from clickmill.bundle.load import CALIBRATION, CONTRACT, METRICS, SAVED_MODEL, TRAINING, Bundle, load
from clickmill.bundle.manifest import ExportFacts, Lineage, Manifest, ModelFacts, SplitFacts
from clickmill.bundle.stored_rows import ServedModel, served
from clickmill.bundle.twin_export import write_twin
from clickmill.contract import dumps
from clickmill.errors import BundleError, UsageError
from clickmill.evaluation import Evaluation
from clickmill.features import tensors
from clickmill.progress import SILENT, Progress

if TYPE_CHECKING:
    from clickmill.calibration import Calibration
    from clickmill.data import PreparedDataset
    from clickmill.training import TrainedModel

HISTORY = "history.json"
PARITY = 1e-5
"""Largest difference of pctr between the exported graph and the Python path, over the golden rows."""


def write(
    out: str | Path,
    trained: TrainedModel,
    calibration: Calibration,
    evaluation: Evaluation,
    dataset: PreparedDataset,
    *,
    report: CalibrationReport,
    model: ServedModel | None = None,
    ne_float32: float | None = None,
    parent: str | None = None,
    created: datetime | None = None,
    seed: int = 0,
    plots: Mapping[str, bytes] | None = None,
    progress: Progress = SILENT,
) -> Bundle:
    """Write the bundle at `out` and return it. Atomic: on any failure, a full disk or Ctrl-C included, nothing is left.

    model: `trained` with its rows rounded as the graph shall store them (`stored_rows.served`), which is what `evaluation` judged;
    float32 when absent. ne_float32: NE of the same split with float32 rows. parent: digest of the champion it challenged. created: when, UTC, now by default. seed: of the golden rows and the
    reference. plots: SVG by name (see `card.PLOT_WORDS`); drawn from the evaluation when absent.

    Raises BundleError when `out` holds something else, the disk is full, or the exported graph does not answer as the model
    did; UsageError when model and dataset have different contracts.
    """
    out = Path(out)
    if trained.contract.digest != dataset.contract.digest:
        raise UsageError(
            f"the model was trained by contract {trained.contract.digest[:12]}, the dataset keeps "
            f"{dataset.contract.digest[:12]}; write the bundle with the dataset the model was trained on"
        )
    if not is_vacant(out):
        raise BundleError(
            f"{out}: exists already; bundles are never overwritten. Give a new path, or remove the old one yourself."
        )
    created = created or datetime.now(UTC)
    model = model or served(trained)
    progress.start("write bundle", 4, "parts")  # graph, rows with answers, card, manifest and disk
    with whole_folder(out) as temp:
        (temp / CONTRACT).write_text(dumps(trained.contract))
        (temp / CALIBRATION).write_text(_json(calibration))
        (temp / REPORT).write_text(_json(report))
        (temp / METRICS).write_text(_json(evaluation))
        (temp / HISTORY).write_text(json.dumps(trained.meta["history"], indent=2) + "\n")
        priors.write(temp, priors.of_dataset(dataset))
        trained.save(temp / TRAINING)
        export(model, calibration, temp / SAVED_MODEL)
        graph = ClickGraph(temp / SAVED_MODEL)
        progress.advance()
        _write_rows(temp, model.trained, calibration, dataset, graph, seed)
        no_twin = write_twin(model, calibration, temp, SAVED_MODEL, graph)
        progress.advance()
        facts = _facts(
            trained,
            evaluation,
            report,
            dataset,
            parent,
            created,
            _export_facts(model, evaluation, ne_float32, no_twin),
        )
        drawn = card.draw(evaluation, trained.meta) if plots is None else plots
        (temp / card.PLOTS).mkdir()
        for name, svg in drawn.items():
            (temp / card.PLOTS / f"{name}.svg").write_bytes(svg)
        for name, text in card.render(facts, drawn).items():
            (temp / name).write_text(text, encoding="utf-8")
        progress.advance()
        graph.close()
        (temp / manifests.MANIFEST).write_bytes(_manifest(temp, facts).to_bytes())
        progress.advance()
    progress.finish()
    return load(out, verify=False)


def _write_rows(
    temp: Path,
    trained: TrainedModel,
    calibration: Calibration,
    dataset: PreparedDataset,
    graph: ClickGraph,
    seed: int,
) -> None:
    """Golden predictions, warm-up requests and the drift reference, all from one sample of calibration rows."""
    contract = trained.contract
    sample = reference.sample(dataset, seed=seed)
    raw = tensors.from_arrow(sample, contract)
    rows, cases = golden.pick(raw, contract, seed=seed)
    golden.write(temp, rows, cases, contract, graph)
    golden.check(temp, contract, graph)
    if graph.ranks:
        requests.check(temp, rows, contract, graph, graph.rank, tolerance=golden.TOLERANCE)
    _refuse_drift(rows, cases, trained, calibration, graph)
    warmup.write(temp / SAVED_MODEL, rows, contract, ranks=graph.ranks)
    blocks = range(0, len(sample), reference.BATCH)
    pctr = [
        graph({name: v[start : start + reference.BATCH] for name, v in raw.items()})[PCTR] for start in blocks
    ]
    reference.write(temp, sample, np.concatenate(pctr))


def _refuse_drift(
    rows: dict[str, np.ndarray],
    cases: list[str],
    trained: TrainedModel,
    calibration: Calibration,
    graph: ClickGraph,
) -> None:
    """The graph must answer as the model and the calibration did in Python: else what was evaluated is not what is served."""
    expected = calibration.pctr(trained.raw_logits(rows))
    moved = np.abs(graph(rows)[PCTR] - expected)
    at = int(np.argmax(moved))
    if not moved[at] <= PARITY:
        raise BundleError(
            f"the exported graph answers {float(graph(rows)[PCTR][at]):.7g} where the trained model with its calibration answers "
            f"{expected[at]:.7g} (golden row {at}, {cases[at]}); nothing was written. This is a bug in Clickmill: please report it."
        )


def _facts(
    trained: TrainedModel,
    evaluation: Evaluation,
    report: CalibrationReport,
    dataset: PreparedDataset,
    parent: str | None,
    created: datetime,
    export: ExportFacts,
) -> CardFacts:
    from clickmill.models import MODELS

    entry = MODELS[trained.name]
    meta = trained.meta
    return CardFacts(
        contract=trained.contract,
        model=ModelFacts(name=trained.name, config=meta["model_config"], training=meta["training_config"]),
        export=export,
        summary=entry.summary,
        paper=entry.paper,
        lineage=Lineage(
            data_digest=dataset.meta.data_digest,
            contract_digest=trained.contract.digest,
            parent=parent,
            training=meta["identity"],
            started_from=meta["started_from"],
            code_version=code_version(),
            seed=meta["training_config"]["seed"],
            negatives_kept=meta["negatives_kept"],
            positive_weight=meta["positive_weight"],
            splits={
                name: SplitFacts(
                    start=_utc(split.start), end=_utc(split.end), rows=split.rows, clicks=split.clicks
                )
                for name, split in dataset.meta.splits.items()
            },
        ),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
        },
        created=created,
        evaluation=evaluation,
        calibration=report,
        parameters=int(trained.keras_model.count_params()),
        epochs=meta["history"][-1]["epoch"],
        best_epoch=meta["best_epoch"],
    )


def _export_facts(
    model: ServedModel, evaluation: Evaluation, ne_float32: float | None, no_twin: str | None
) -> ExportFacts:
    ne = evaluation.normalized_entropy.value
    return ExportFacts(
        rows=model.rows,
        table_bytes=model.table_bytes,
        float32_bytes=model.float32_bytes,
        ne_float32=ne_float32,
        relative_ne_loss=None if ne_float32 is None else ne / ne_float32 - 1,
        no_twin=no_twin,
    )


def _manifest(temp: Path, facts: CardFacts) -> Manifest:
    files = manifests.take_stock(temp)
    return Manifest(
        name=facts.contract.name,
        created=facts.created.astimezone(UTC),
        digest=manifests.digest_of(files),
        files=files,
        model=facts.model,
        export=facts.export,
        lineage=facts.lineage,
        versions=facts.versions,
        metrics=dict(facts.evaluation.figures()),
    )


def _utc(moment: datetime | None) -> datetime | None:
    """Split bounds are UTC; a naive one lost its zone on the way through a file."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json(record: Any) -> str:
    return str(record.model_dump_json(indent=2)) + "\n"
