"""Models on one test split, each beside the one before it, and means over markets, with intervals: what the benches of quality share.

Their settings on the command line are `model.setting=value` and `setting=value`, values as JSON, or else as words.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.data import PreparedDataset
from clickmill.evaluation import normalized_entropy
from clickmill.evaluation.auc import ranked_auc
from clickmill.evaluation.bootstrap import poisson_counts
from clickmill.evaluation.rows import Ranked, check_rows, cluster_codes
from clickmill.features import FeatureSpace
from clickmill.models import configure
from clickmill.training import TrainingConfig, train

RESAMPLES = 200


@dataclass(frozen=True)
class Trial:
    """One training and what it says about the test split."""

    model: str
    p: np.ndarray
    """(n,) predictions on the test split, corrected for the sampling of non-clicks, not calibrated."""
    validation_ne: float
    epoch: float
    """Passes over the train split that the weights kept had seen."""
    samples_per_second: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.model}: validation NE {self.validation_ne:.4f} at epoch {self.epoch:.2f}, "
            f"{self.samples_per_second:,.0f} samples/s, {self.seconds:.0f} s"
        )


def trial(
    model: str,
    dataset: PreparedDataset,
    space: FeatureSpace,
    options: Mapping[str, Any],
    config: TrainingConfig,
) -> Trial:
    """Train one model and let it predict the test split."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = train(
            dataset, space, model, model_config=dict(options), config=config, out=Path(folder) / "m"
        )
        seconds = time.perf_counter() - began
        logit = trained.raw_logits_of(dataset, "test").astype(np.float64)
    history = trained.meta["history"]
    logit += np.log(dataset.negatives_kept)
    return Trial(
        model=model,
        p=1 / (1 + np.exp(-logit)),
        validation_ne=min(record["ne"] for record in history),
        epoch=trained.meta["best_epoch"],
        samples_per_second=float(np.median([record["samples_per_second"] for record in history])),
        seconds=seconds,
    )


def kept_or(train_anew: Callable[[], Trial], path: Path | None) -> Trial:
    """The trial kept at `path`, or else a new one, which is kept there unless path is None."""
    if path is not None and path.exists():
        with np.load(path) as kept:
            return Trial(**{name: kept[name] if name == "p" else kept[name].item() for name in kept.files})
    done = train_anew()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **dataclasses.asdict(done))
        partial.replace(path)
    return done


def report(
    y: np.ndarray, cluster: np.ndarray, models: Mapping[str, Sequence[np.ndarray]], *, seed: int = 0
) -> list[str]:
    """A Markdown table: for each model (name -> predictions (n,) of each of its trainings, the ladder from the bottom up) the mean AUC
    of its trainings, the difference to the model before, NE, and the range of AUC over trainings.

    Intervals are 95 %, of the mean over trainings, when the test rows are drawn anew in whole clusters (n,), the same rows for all models.
    """
    ranked = {
        name: [Ranked.of(check_rows(y, p, None)) for p in trainings] for name, trainings in models.items()
    }
    auc = {
        name: np.array([ranked_auc(rows, rows.weight) for rows in trainings])
        for name, trainings in ranked.items()
    }
    codes, units = cluster_codes(cluster, len(y))
    rng = np.random.default_rng(seed)
    draws = {name: np.empty(RESAMPLES) for name in models}
    for r in range(RESAMPLES):
        counts = poisson_counts(rng, units)[codes]
        for name, trainings in ranked.items():
            draws[name][r] = np.mean([ranked_auc(rows, counts[rows.order]) for rows in trainings])
    lines = [
        "| model | AUC | minus the model before | NE | AUC of each training |",
        "|---|---|---|---|---|",
    ]
    before = None
    for name, trainings in models.items():
        ahead = ""
        if before is not None:
            low, high = np.quantile(draws[name] - draws[before], [0.025, 0.975])
            ahead = f"{auc[name].mean() - auc[before].mean():+.4f} ({low:+.4f} to {high:+.4f})"
        low, high = np.quantile(draws[name], [0.025, 0.975])
        ne = np.mean([normalized_entropy(y, p) for p in trainings])
        lines.append(
            f"| {name} | {auc[name].mean():.4f} ({low:.4f} to {high:.4f}) | {ahead} | {ne:.4f} "
            f"| {', '.join(f'{value:.4f}' for value in auc[name])} |"
        )
        before = name
    return lines


def over_seeds(values: Sequence[float], form: str) -> str:
    """Mean and 95 % interval of Student's t over the seeds."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return f"{mean:{form}}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:{form}} ({mean - half:{form}} to {mean + half:{form}}; {n} seeds)"


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """`setting=value` to {setting: value}."""
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def by_model(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`model.setting=value` to {model: {setting: value}}; a setting the model does not know is refused."""
    found: dict[str, dict[str, Any]] = {}
    for where, value in parsed(pairs).items():
        model, _, key = where.partition(".")
        found.setdefault(model, {})[key] = value
    for model, options in found.items():
        configure(model, options)
    return found
