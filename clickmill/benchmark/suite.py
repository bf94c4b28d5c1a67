"""The suite: prepare the published splits, learn the feature space, train each model by its recipe, judge it on the test split.

    <out>/
      dataset/, space/            the splits as this library keeps them, and what was learned from train
      models/<name>/              the trained model; result.json beside it, written last
      results.json, report.md     all models

A model whose folder holds a result of the same data and settings is not trained again; one that was interrupted goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from clickmill.benchmark.layout import Layout
from clickmill.benchmark.recipe import Recipe
from clickmill.data import PreparedDataset, files
from clickmill.errors import UnreadableData
from clickmill.evaluation import Estimate, bootstrap
from clickmill.progress import SILENT, Progress

if TYPE_CHECKING:
    from clickmill.features import FeatureSpace

RESULT = "result.json"


class ModelResult(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One model on the test split, uncalibrated."""

    model: str
    """Name in the zoo."""
    auc: Estimate
    """With its 95 % interval (rows resampled)."""
    log_loss: Estimate
    """Nats, with its 95 % interval."""
    published_auc: float | None = None
    """What was published for this model on this data set."""
    published_log_loss: float | None = None
    """The same for the log loss."""
    epochs: float
    """Passes over the train split until training stopped."""
    best_epoch: float
    """The one whose weights were kept, by the validation split."""
    seconds: float
    """In training steps; evaluations come on top."""
    parameters: int
    """All weights."""
    settings: dict[str, Any]
    """What decided the weights: model, configurations, digests of data and space."""

    @property
    def difference(self) -> float | None:
        """AUC minus the published one."""
        return None if self.published_auc is None else self.auc.value - self.published_auc


def prepare(layout: Layout, out: Path, progress: Progress = SILENT) -> PreparedDataset:
    """The splits as a prepared dataset in `out/dataset`; taken as it is when it was made from the same files.

    A row that breaks the contract stops everything: figures on fewer rows than published would be compared in vain.
    """
    from clickmill.data import PrepareOptions, prepare_splits

    folder = out / "dataset"
    if (folder / "dataset.json").is_file():
        known = PreparedDataset.open(folder)
        digest = files.digest([(name, [file]) for name, file in layout.files.items()])
        if known.contract == layout.contract and known.meta.data_digest == digest:
            return known
    return prepare_splits(
        layout.files,
        layout.contract,
        folder,
        options=PrepareOptions(max_quarantine_share=0.0),
        progress=progress,
    )


def learn(dataset: PreparedDataset, out: Path) -> FeatureSpace:
    """The feature space of the train split, kept in `out/space`."""
    from clickmill.features import fit

    space = fit(dataset)
    space.save(out / "space")
    return space


def run(
    layout: Layout,
    dataset: PreparedDataset,
    recipes: Mapping[str, Recipe],
    out: Path,
    *,
    seed: int = 0,
    resamples: int = 200,
    progress: Progress = SILENT,
) -> Iterator[ModelResult]:
    """The results one by one, as soon as each is known.

    Raises what `train` raises; Ctrl-C loses nothing.
    """
    space = learn(dataset, out)
    for name, recipe in recipes.items():
        yield _trained(name, recipe, dataset, space, layout, out, seed, resamples, progress)


def _trained(
    name: str,
    recipe: Recipe,
    dataset: PreparedDataset,
    space: FeatureSpace,
    layout: Layout,
    out: Path,
    seed: int,
    resamples: int,
    progress: Progress,
) -> ModelResult:
    from clickmill.models import configure
    from clickmill.training import train

    folder = out / "models" / name
    rows = dataset.meta.splits["train"].rows
    config = recipe.config(rows, seed)
    settings = {
        "model": name,
        "model_config": configure(name, dict(recipe.model)).model_dump(mode="json"),
        "training_config": config.model_dump(mode="json"),
        "contract_digest": space.contract.digest,
        "space_digest": space.digest,
        "data_digest": dataset.meta.data_digest,
    }
    known = _known(folder / RESULT)
    if known is not None and known.settings == json.loads(json.dumps(settings)):
        return known
    trained = train(
        dataset,
        space,
        name,
        model_config=dict(recipe.model),
        config=config,
        out=folder,
        progress=progress,
    )
    logits = trained.raw_logits_of(dataset, "test").astype(np.float64)
    y = dataset.columns("test", [dataset.label])[dataset.label].to_numpy()
    scores = bootstrap(
        y, 1 / (1 + np.exp(-logits)), metrics=["auc", "log_loss"], resamples=resamples, seed=seed
    )
    history = trained.meta["history"]
    ends = [0.0, *(record["epoch"] for record in history)]
    figure = layout.dataset.figures.get(name) if layout.dataset else None
    result = ModelResult(
        model=name,
        auc=scores["auc"],
        log_loss=scores["log_loss"],
        published_auc=figure and figure.auc,
        published_log_loss=figure and figure.log_loss,
        epochs=ends[-1],
        best_epoch=trained.meta["best_epoch"],
        seconds=sum(
            (end - start) * rows / record["samples_per_second"]
            for start, end, record in zip(ends, ends[1:], history, strict=False)
        ),
        parameters=trained.keras_model.count_params(),
        settings=settings,
    )
    (folder / RESULT).write_text(result.model_dump_json(indent=1))
    return result


def _known(path: Path) -> ModelResult | None:
    if not path.is_file():
        return None
    try:
        return ModelResult.model_validate_json(path.read_text())
    except ValidationError as error:
        raise UnreadableData(f"{path}: is not a result of this suite ({error}); remove its folder") from error
