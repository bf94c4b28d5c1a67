"""The pipeline on this machine: `run(RunOptions(...))` is what `clickmill run` does.

kfp.local starts every step as a process of its own, so a run here goes the way it goes on a cluster.

    <workspace>/
      runs/<time>/             one run: report.html, quality.html, card.html, result.json, steps.jsonl, kfp.log,
                               and a folder per step with its outputs and log.txt
      training/<key>/          unfinished training; the same run again goes on from its checkpoint
      cache/                   which step with which inputs gave which outputs
      store/                   the model store, unless another is given
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from clickmill import contract as contracts
from clickmill.bundle import ExportConfig, Store
from clickmill.data import files
from clickmill.errors import UsageError
from clickmill.progress import SILENT, Progress
from components.typed_settings import portable, typed_settings
from pipelines.local_outcome import RunResult, failure, interruption, publish, result_of
from pipelines.local_steps import LocalSteps, StepEvent, Watch

__all__ = ["RunOptions", "RunResult", "StepEvent", "Watch", "run"]

CODE = ("clickmill", "components")
"""Rooms whose source is part of the cache key: an upgraded library does not take steps of the old one from the cache."""


class RunOptions(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One run of the pipeline on this machine. The fields are those of the pipeline; see `pipelines.ctr`."""

    contract: Path
    """YAML file of the feature contract."""
    impressions: tuple[str, ...] = Field(min_length=1)
    """Impression log: files, folders or patterns."""
    workspace: Path
    """Folder for everything the run writes; the same folder again resumes and reuses."""
    clicks: tuple[str, ...] = ()
    """Click log to join; empty when the impressions carry their label."""
    truth: tuple[str, ...] = ()
    """True click probabilities of a simulated market."""
    test: tuple[str, ...] = ()
    """Test files, when the test split is not cut from the impressions by time."""
    models: tuple[str, ...] = Field(default=("lr", "dcn_v2"), min_length=1)
    """Models, or variants, to train, one after another; the best of them faces the gate."""
    variants: dict[str, dict[str, Any]] = {}
    """Training configurations by a name of their own (`components.train.settings.Variant`)."""
    model_configs: dict[str, dict[str, Any]] = {}
    """Hyperparameters by model name."""
    training: dict[str, Any] = {}
    """Settings of the training run (`clickmill.training.TrainingConfig`)."""
    preparation: dict[str, Any] = {}
    """How rows are joined and split (`clickmill.data.PrepareOptions`)."""
    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of non-clicks kept in train and validation."""
    positive_weight: float = Field(default=1.0, ge=1, le=100)
    """Weight of a click in the loss."""
    max_quarantine_share: float = Field(default=0.01, ge=0, le=1)
    """Share of rows that may break the contract before the run stops."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    export: dict[str, Any] = {}
    """How the graph stores its embedding rows (`clickmill.bundle.ExportConfig`)."""
    gate: dict[str, Any] = {}
    """Settings of the gate (`clickmill.release.GatePolicy`)."""
    store: Path | None = None
    """Model store the endpoint watches; `<workspace>/store` when absent."""
    warm_start: bool = False
    """Begin with the weights of the store's champion, for the model that is the champion's; the first run starts from scratch."""
    cache: bool = True
    """Skip steps whose inputs and code have not changed. The gate and the deployment always run."""

    @property
    def models_store(self) -> Path:
        """The model store of this run, absolute."""
        return (self.store or self.workspace / "store").absolute()


@dataclass(frozen=True)
class _Place:
    """Where a run writes."""

    workspace: Path
    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "steps.jsonl"

    @property
    def engine_log(self) -> Path:
        return self.folder / "kfp.log"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"


def run(options: RunOptions, *, progress: Progress = SILENT, watch: Watch = lambda event: None) -> RunResult:
    """Run the pipeline to its end.

    `progress` gets what the running step reports (rows, samples, loss), `watch` every start and end of a step. Both are called
    while stdout goes to a log, so they draw on stderr. Call it from the main thread, else Ctrl-C is not passed on to the step.

    Raises the step's own ClickmillError, with the step's name and log in front; UsageError when another run holds the
    workspace; KeyboardInterrupt after Ctrl-C, once the running step has saved what it had: the same call then goes on from there.
    """
    _refuse_wrong_settings(options)
    contract = contracts.load(options.contract)
    inputs = _inputs(options, contract)
    options.workspace.mkdir(parents=True, exist_ok=True)
    with _sole_run(options.workspace):
        place = _place(options.workspace.absolute())
        steps = LocalSteps(record=place.record, scratch=place.scratch, progress=progress, watch=watch)
        arguments = _arguments(options, inputs, place)
        try:
            _execute(options, arguments, place, steps)
        except KeyboardInterrupt as interrupt:
            raise interruption(steps, options.workspace) from interrupt
        except RuntimeError as error:  # what kfp.local raises when a step ended badly
            publish(steps, place.folder)
            raise failure(steps, place.record, place.engine_log) from error
        result = result_of(steps, place.record, place.folder, options.models_store)
        (place.folder / "result.json").write_text(result.to_json())
        return result


def _execute(options: RunOptions, arguments: Mapping[str, Any], place: _Place, steps: LocalSteps) -> None:
    try:
        from kfp import local
        from kfp.local.config import LocalExecutionConfig
    except ImportError as error:
        raise UsageError(
            f"the pipeline needs kfp, which is not installed ({error}); install clickmill[pipelines]"
        ) from error

    from pipelines.build import Build
    from pipelines.ctr import build_pipeline
    from pipelines.local_log import engine_log

    pipeline = build_pipeline(Build(retries=0, models_at_once=1))
    kept = LocalExecutionConfig.instance
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(place.folder),
        workspace_root=str(place.scratch),  # kfp removes it at the end of the run
        enable_caching=options.cache,
        cache_root=str(place.workspace / "cache"),
    )
    try:
        with engine_log(place.engine_log, steps, options.models), steps.installed():
            pipeline(**arguments)
    finally:
        LocalExecutionConfig.instance = kept


def _refuse_wrong_settings(options: RunOptions) -> None:
    """Read every setting as its step will, so that a typo in the gate's settings is not found after an hour of training."""
    from clickmill.models import MODELS, configure
    from components.preprocess.options import options_of
    from components.train.settings import configuration, settings
    from components.validate_model.policy import policy_of

    given = options.model_dump(mode="json")
    options_of(given["preparation"], negatives_kept=options.negatives_kept, seed=options.seed)
    typed_settings("export", ExportConfig, given["export"])
    policy_of(given["gate"])
    for model in options.models:
        kind, chosen, training = configuration(
            model, given["variants"], given["model_configs"], given["training"]
        )
        configure(kind, chosen)
        settings(training, positive_weight=options.positive_weight, seed=options.seed)
    unknown = set(options.model_configs) - set(MODELS)
    if unknown:
        raise UsageError(
            f"model_configs: no model is called {sorted(unknown)[0]!r}; there are {', '.join(MODELS)}"
        )
    taken = set(options.variants) & set(MODELS)
    if taken:
        raise UsageError(f"variants: {sorted(taken)[0]!r} is a model; give the variant another name")
    if len(set(options.models)) < len(options.models):
        raise UsageError(
            f"models: {', '.join(options.models)} names a model twice; give its other configuration a name in `variants`"
        )


def _inputs(options: RunOptions, contract: contracts.FeatureContract) -> dict[str, list[Path]]:
    """The files behind the four inputs, so that a missing one is named before anything starts."""
    given = {
        "impressions": options.impressions,
        "clicks": options.clicks,
        "truth": options.truth,
        "test": options.test,
    }
    return {name: _files(name, paths, contract) for name, paths in given.items()}


def _files(name: str, paths: tuple[str, ...], contract: contracts.FeatureContract) -> list[Path]:
    if not paths:
        return []
    layout = contract.source.format if name in ("impressions", "test") else files.side_format(list(paths))
    return [path.absolute() for path in files.resolve(list(paths), layout)]


def _arguments(options: RunOptions, inputs: dict[str, list[Path]], place: _Place) -> dict[str, Any]:
    given = portable(options.model_dump(mode="json"))  # a timedelta becomes ISO 8601, which the steps read
    return {
        "contract": str(options.contract.absolute()),
        "impressions": _absolute(options.impressions),
        "clicks": _absolute(options.clicks),
        "truth": _absolute(options.truth),
        "test": _absolute(options.test),
        "models": list(options.models),
        "variants": given["variants"],
        "model_configs": given["model_configs"],
        "training": given["training"],
        "preparation": given["preparation"],
        "negatives_kept": options.negatives_kept,
        "positive_weight": options.positive_weight,
        "max_quarantine_share": options.max_quarantine_share,
        "seed": options.seed,
        "export": given["export"],
        "gate": given["gate"],
        "store": str(options.models_store),
        "start": _champion(options),
        "work": str(place.workspace / "training"),
        "inputs_digest": _digest(options.contract, inputs),
    }


def _champion(options: RunOptions) -> str:
    """Folder of the store's newest version, by number, so that a new champion means a new training and not one from the cache."""
    if not options.warm_start:
        return ""
    return str(Store(options.models_store).latest() or options.models_store)


def _absolute(paths: tuple[str, ...]) -> list[str]:
    return [
        os.path.abspath(path) for path in paths
    ]  # a pattern stays one; the steps may have another working folder


def _digest(contract: Path, inputs: dict[str, list[Path]]) -> str:
    """Changes when a row, the contract or the code changes, so that the cache never answers for other data."""
    total = hashlib.sha256(files.digest(sorted(inputs.items())).encode())
    total.update(contract.read_bytes())
    rooms = Path(__file__).parents[1]
    for source in sorted(path for room in CODE for path in (rooms / room).rglob("*.py")):
        total.update(str(source.relative_to(rooms)).encode() + b"\0" + source.read_bytes())
    return total.hexdigest()


def _place(workspace: Path) -> _Place:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%f")
    folder = workspace / "runs" / stamp
    (folder / "scratch").mkdir(parents=True)
    return _Place(workspace, folder)


@contextmanager
def _sole_run(workspace: Path) -> Iterator[None]:
    with (workspace / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{workspace}: another run is writing here; wait for it, or give this one a workspace of its own"
            ) from error
        yield
