"""The `train` step."""

from typing import Any, Dict  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    model: str,
    variants: Dict[str, Any],  # noqa: UP006
    model_configs: Dict[str, Any],  # noqa: UP006
    training: Dict[str, Any],  # noqa: UP006
    positive_weight: float,
    seed: int,
    start: str,
    work: str,
    trained: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    history: dsl.Output[dsl.Markdown],
):
    """Train one model on the train split and stop when normalized entropy on the validation split no longer falls.

    Trains on all GPUs of its pod. Given a work folder, an interrupted step saves a checkpoint there and its next attempt goes on from it.

    Args:
        dataset: Prepared dataset with its feature space.
        model: Name of the model (lr, fm, wide_deep, dcn_v2, ...) or of a variant.
        variants: Training configurations by a name of their own, such as {"wide": {"model": "dcn_v2", "model_config": {"dim": 32}, "training": {"l2": 10}}}.
        model_configs: Hyperparameters by model name; this step takes its own.
        training: Settings of the training run (epochs, batch_size, learning_rate, ...).
        positive_weight: Weight of a click in the loss, 1 to 100.
        seed: Seed of initial weights, order of the rows and dropout.
        start: Bundle whose weights to begin with, or a model store whose newest version it is; empty: from scratch.
        work: Folder for unfinished training, on this machine or on a mounted volume; empty: in the output itself.
        trained: The trained model: weights, feature space, settings and history.
        metrics: Epochs run and the best normalized entropy on the validation split.
        history: The course of training, epoch by epoch.
    """
    from pathlib import Path

    from clickmill import training as library
    from clickmill.data import PreparedDataset
    from clickmill.features import FeatureSpace
    from clickmill.training.cluster import strategy
    from components.metrics import log_metrics
    from components.step import step
    from components.train.champion import champion_of
    from components.train.settings import configuration, settings
    from components.train.summary import figures_of, history_page, sentence
    from components.train.workplace import workplace

    with step(f"train {model}") as running:
        prepared = PreparedDataset.open(dataset.path)
        space = FeatureSpace.load(Path(dataset.path) / "space")
        kind, chosen, own = configuration(model, variants, model_configs, training)
        config = settings(own, positive_weight=positive_weight, seed=seed)
        digest = prepared.meta.data_digest
        champion = champion_of(start, kind)
        if champion.note:
            running.note(champion.note)
        begun = champion.trained.meta["identity"] if champion.trained else ""
        with workplace(work, Path(trained.path), space, digest, kind, chosen, config, begun) as out:
            done = library.train(
                prepared,
                space,
                kind,
                model_config=chosen,
                config=config,
                start=champion.trained,
                strategy=strategy(),
                out=out,
                progress=running.progress,
            )
        trained.metadata["model"] = model
        log_metrics(metrics, figures_of(done.meta))
        Path(history.path).write_text(history_page(model, done.meta))
        running.note(sentence(done.meta))
