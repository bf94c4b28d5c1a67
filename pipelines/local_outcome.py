"""How a local run ended: its result, or its failure in the words of the step that failed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickmill import errors
from clickmill.errors import ClickmillError
from components.step import StepRecord, read_records
from pipelines.local_steps import Execution, LocalSteps

_TAIL = 15


@dataclass(frozen=True)
class RunResult:
    """Where everything is that a run made, and what the gate decided."""

    folder: Path
    """Folder of the run: a folder per step with outputs and log, and `result.json`, this record."""
    decision: str
    """`promote` or `keep`."""
    reasons: tuple[str, ...]
    """Why, a sentence each."""
    best: Path
    """Bundle of the best model: the one that faced the gate."""
    best_model: str
    """Its model's name."""
    bundles: dict[str, Path]
    """Bundles of all models, by model name."""
    metrics: dict[str, Any]
    """What the gate measured on the test rows."""
    version: int | None
    """Version in the model store, or None when nothing was deployed."""
    deployed: Path | None
    """Folder of that version."""
    store: Path
    """The model store."""
    dataset: Path
    """The prepared dataset (`clickmill.data.PreparedDataset`)."""
    quality_report: Path
    """What the contract check found: an HTML page."""
    quarantine: Path
    """Folder of the rows that broke the contract, each with its reason."""
    card: Path
    """Model card of the best bundle: an HTML page."""
    report: Path
    """The run's report: an HTML page."""

    def to_json(self) -> str:
        """All fields, paths as text."""
        return json.dumps(dataclasses.asdict(self), indent=2, default=str) + "\n"


def result_of(steps: LocalSteps, record: Path, folder: Path, store: Path) -> RunResult:
    """The result of a run that went through. The gate is never taken from the cache, so its request names all it was given."""
    judged = next(e for e in steps.executions if e.component == "validate_model")
    shipped = next((e for e in steps.executions if e.component == "deploy"), None)
    dataset = judged.inputs("dataset")[0]
    verdict = json.loads(judged.output("metrics").read_text())
    pages = publish(steps, folder)
    version = int(shipped.value("Output")) if shipped else None
    return RunResult(
        folder=folder,
        decision=judged.value("Output"),
        reasons=tuple(verdict["reasons"]),
        best=judged.output("best"),
        best_model=verdict["best"],
        bundles={bundle["metadata"]["model"]: Path(bundle["uri"]) for bundle in judged.inputs("bundles")},
        metrics=verdict["metrics"],
        version=version or None,
        deployed=store / str(version) if version else None,
        store=store,
        dataset=Path(dataset["uri"]),
        quality_report=pages["quality.html"],
        quarantine=Path(dataset["metadata"]["quarantine"]),
        card=pages["card.html"],
        report=pages["report.html"],
    )


def publish(steps: LocalSteps, folder: Path) -> dict[str, Path]:
    """Copy the pages of the run that there are to its folder, by names that a browser opens; kfp's own have no suffix."""
    sources: dict[str, Path] = {}
    for execution in steps.executions:
        if execution.component == "validate_data":
            sources["quality.html"] = execution.output("report")
        if execution.component == "validate_model":
            # validate_data may have come from the cache; the dataset knows where its page is
            sources["quality.html"] = Path(execution.inputs("dataset")[0]["metadata"]["quality_report"])
            sources["card.html"] = execution.output("card")
        if execution.component == "report":
            sources["report.html"] = execution.output("page")
    pages = {name: folder / name for name, source in sources.items() if source.is_file()}
    for name, page in pages.items():
        shutil.copyfile(sources[name], page)
    return pages


def failure(steps: LocalSteps, record: Path, engine_log: Path) -> ClickmillError:
    """The error of the step that ended the run, of the step's own class, with the step's name in front and its log behind."""
    failed = steps.failed
    if failed is None:
        return ClickmillError(f"the run stopped outside of any step; kfp's own words are in {engine_log}")
    told = next((r for r in read_records(record) if r.outcome == "failed"), None)
    if told is None:
        return ClickmillError(f"step {failed.step}: {_death(failed)}\n  log: {failed.log}")
    if not told.expected:
        return ClickmillError(
            f"step {told.step} failed in a way nobody foresaw: {told.kind}: {told.reason}\n  traceback: {failed.log}"
        )
    kind = _class_of(told)
    return kind(f"step {told.step}: {told.reason}\n  log: {failed.log}")


def interruption(steps: LocalSteps, workspace: Path) -> KeyboardInterrupt:
    """What Ctrl-C comes back as, with the way to go on."""
    last = steps.executions[-1].step if steps.executions else "the first step"
    return KeyboardInterrupt(f"in step {last}; the same run in {workspace} goes on from there")


def _class_of(told: StepRecord) -> type[ClickmillError]:
    kind = getattr(errors, told.kind, ClickmillError)
    return kind if isinstance(kind, type) and issubclass(kind, ClickmillError) else ClickmillError


def _death(failed: Execution) -> str:
    """Why a process ended that could say nothing itself."""
    code = failed.exit_code
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number == signal.SIGKILL:
        return "was killed (SIGKILL), most likely because memory ran out; give it more, or fewer rows or a smaller batch"
    if number:
        return f"was ended by {signal.Signals(number).name}"
    tail = "\n".join(f"  | {line}" for line in failed.log.read_text(errors="replace").splitlines()[-_TAIL:])
    return f"ended with exit code {code} before it could say why; its last lines:\n{tail}"
