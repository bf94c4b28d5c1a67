"""The search itself: which settings to try next, which trial to give up, and what is known so far; by optuna, on disk.

Values are proposed by a tree-structured Parzen estimator (Bergstra et al., NIPS 2011); a trial whose best value so far is worse than the
median of the others at the same step is given up. All is kept in a journal: the same search goes on where it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickmill.errors import TrainingError, UsageError
from clickmill.sweep.space import Interval, SearchSpace

if TYPE_CHECKING:
    import optuna

STARTUP = 5
"""Trials that run to their end before any is given up, and before anything is learned from them."""


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"  # trained to its end
    PRUNED = "pruned"  # given up: behind the others at the same step
    FAILED = "failed"  # diverged


@dataclass(frozen=True)
class Trial:
    """One trial that has ended."""

    number: int
    settings: Mapping[str, Any]
    """Setting to value."""
    value: float | None
    """What is minimized; of a pruned trial the last report, None when it failed."""
    outcome: Outcome


Report = Callable[[int, float], None]
"""Told (step, value) as a trial goes on; raises when the trial is to be given up."""
Objective = Callable[[Mapping[str, Any], Report], float]


def search(
    space: SearchSpace, objective: Objective, *, trials: int, journal: Path, name: str, seed: int = 0
) -> Iterator[Trial]:
    """Every ended trial, those of earlier calls first, until there are `trials`.

    objective: minimized; gets settings and a `Report`. Its TrainingError fails the trial; whatever else it raises ends the search, and
    the trial it was in is tried again with the same settings by the next call. `name` keeps searches in one journal apart.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage
    except ImportError as error:
        raise UsageError(
            f"a sweep needs optuna, which is not installed ({error}); install clickmill[sweep]"
        ) from error

    logging.getLogger("optuna").setLevel(logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )
    done = [
        trial for trial in study.trials if trial.state.is_finished() and "abandoned" not in trial.user_attrs
    ]
    # The sampler draws by seed and by how much is known, so that a search that goes on does not draw the same again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(done), n_startup_trials=STARTUP)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        storage.set_trial_user_attr(trial._trial_id, "abandoned", True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    yield from (_ended(place, trial, space) for place, trial in enumerate(done))
    for place in range(len(done), trials):
        yield _ended(place, _run(study, space, objective), space)


def _run(study: optuna.Study, space: SearchSpace, objective: Objective) -> optuna.trial.FrozenTrial:
    import optuna

    trial = study.ask()
    settings = {name: _value(dimension, _drawn(trial, name, dimension)) for name, dimension in space.items()}

    def report(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        value = objective(settings, report)
    except optuna.TrialPruned:
        return study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except TrainingError:
        return study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return study.tell(trial, value)


def _drawn(trial: optuna.Trial, name: str, dimension: Any) -> Any:
    if not isinstance(dimension, Interval):
        # Optuna keeps words and numbers only; a list travels as JSON.
        return trial.suggest_categorical(name, [json.dumps(choice) for choice in dimension.choices])
    if dimension.whole:
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _value(dimension: Any, drawn: Any) -> Any:
    return drawn if isinstance(dimension, Interval) else json.loads(drawn)


def _ended(number: int, trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Trial:
    import optuna

    states = optuna.trial.TrialState
    outcome = {states.COMPLETE: Outcome.COMPLETE, states.PRUNED: Outcome.PRUNED}.get(
        trial.state, Outcome.FAILED
    )
    settings = {name: _value(space[name], drawn) for name, drawn in trial.params.items()}
    return Trial(number, settings, None if outcome is Outcome.FAILED else trial.value, outcome)
