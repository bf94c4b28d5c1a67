"""The trials of a sweep: each a training on the train split, judged by the best NE on the validation split. The test split is never read.

<out>/
  study.log              every trial (optuna's journal)
  trials/<key>/          a trial in training; goes on from its checkpoint; removed when it is behind
  best/                  the trained model of the best trial so far
  best.yaml              its settings, as `clickmill run --settings` takes them
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from clickmill.errors import TrainingError
from clickmill.models import configure
from clickmill.progress import SILENT, Progress
from clickmill.sweep.search import Outcome, Report, Trial, search
from clickmill.sweep.space import SearchSpace, refuse_wrong
from clickmill.training import TrainingConfig

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset
    from clickmill.features import FeatureSpace
    from clickmill.training.checkpoint import EvaluationRecord

JOURNAL, TRIALS, BEST, BEST_YAML = "study.log", "trials", "best", "best.yaml"


@dataclass(frozen=True)
class SweepResult:
    """All trials, and the best."""

    trials: tuple[Trial, ...]
    """In the order in which they ended."""
    best: Trial
    """That of the lowest validation NE."""
    settings: Mapping[str, Any]
    """Settings of the best, those that were fixed included: `training.NAME` or `model.NAME` to value."""


def sweep(
    dataset: PreparedDataset,
    space: FeatureSpace,
    model: str,
    search_space: SearchSpace,
    *,
    trials: int,
    out: Path,
    fixed: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    watch: Callable[[Trial], None] = lambda trial: None,
) -> SweepResult:
    """Search settings of `model` until `trials` trials have ended, earlier calls on the same `out` included.

    fixed: settings of all trials, by the same names. watch: told of each trial that ends. Ctrl-C keeps what is done: the same
    call goes on, also within a trial. Raises UsageError for wrong settings, TrainingError when every trial failed, and what `train` raises.
    """
    fixed = dict(fixed or {})
    refuse_wrong(search_space, model, "search space")
    _configs(model, fixed, seed)  # a wrong fixed setting is named before the first trial
    about = {
        "model": model,
        "space": {name: dimension.model_dump(mode="json") for name, dimension in search_space.items()},
        "fixed": fixed,
        "seed": seed,
        "rows": space.digest,
        "data": dataset.meta.data_digest,
    }
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    ended: list[Trial] = []

    def objective(settings: Mapping[str, Any], report: Report) -> float:
        place = out / TRIALS / _key(name, settings)
        value = _train(dataset, space, model, {**fixed, **settings}, seed, place, report, progress)
        if value < min(
            (t.value for t in ended if t.outcome is Outcome.COMPLETE and t.value is not None),
            default=float("inf"),
        ):
            shutil.rmtree(out / BEST, ignore_errors=True)
            shutil.move(place, out / BEST)
            (out / BEST_YAML).write_text(settings_yaml(model, {**fixed, **settings}))
        shutil.rmtree(place, ignore_errors=True)
        return value

    for trial in search(search_space, objective, trials=trials, journal=out / JOURNAL, name=name, seed=seed):
        ended.append(trial)
        if trial.outcome is not Outcome.COMPLETE:
            shutil.rmtree(out / TRIALS / _key(name, trial.settings), ignore_errors=True)
        watch(trial)
    complete = [trial for trial in ended if trial.outcome is Outcome.COMPLETE]
    if not complete:
        raise TrainingError(f"all {len(ended)} trials failed; narrow the learning rates of the search space")
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    return SweepResult(tuple(ended), best, {**fixed, **best.settings})


def settings_yaml(model: str, settings: Mapping[str, Any]) -> str:
    """Settings as the YAML that `clickmill run --settings` takes: topics, and below `model` the model's name."""
    topics: dict[str, Any] = {
        "training": _topic(settings, "training"),
        "model": {model: _topic(settings, "model")},
    }
    return yaml.safe_dump(json.loads(json.dumps(topics)), sort_keys=False)


def _topic(settings: Mapping[str, Any], topic: str) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in settings.items() if name.startswith(topic + ".")}


def _configs(model: str, settings: Mapping[str, Any], seed: int) -> tuple[Any, TrainingConfig]:
    from pydantic import ValidationError

    from clickmill.errors import UsageError

    try:
        training = TrainingConfig.model_validate({**_topic(settings, "training"), "seed": seed})
    except ValidationError as error:
        raise UsageError(f"training settings: {error}") from error
    return configure(model, _topic(settings, "model")), training


def _key(name: str, settings: Mapping[str, Any]) -> str:
    return hashlib.sha256((name + json.dumps(settings, sort_keys=True)).encode()).hexdigest()[:16]


def _train(
    dataset: PreparedDataset,
    space: FeatureSpace,
    model: str,
    settings: Mapping[str, Any],
    seed: int,
    out: Path,
    report: Report,
    progress: Progress,
) -> float:
    from clickmill.training import train

    chosen, config = _configs(model, settings, seed)
    best = float("inf")

    def told(record: EvaluationRecord) -> None:
        nonlocal best
        best = min(best, record.ne)
        report(round(record.epoch * config.evaluations_per_epoch), best)

    trained = train(
        dataset,
        space,
        model,
        model_config=chosen,
        config=config,
        out=out,
        progress=progress,
        on_evaluation=told,
    )
    return min(record["ne"] for record in trained.meta["history"])
