"""`clickmill train`: one model on a prepared dataset; with TF_CONFIG set, one worker of many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import AsJson, Bars, print_facts, print_json, words
from clickmill.command.learned_space import learned_space
from clickmill.command.settings import nested, typed
from clickmill.command.tensorflow_start import start_tensorflow


def train(
    dataset: Annotated[Path, typer.Argument(help="Prepared dataset (clickmill data prepare).")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the trained model. An interrupted training is kept here and continued.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="Model to train: lr, fm, wide_deep, dcn, dcn_v2, dlrm, din, dien.")
    ] = "dcn_v2",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="A setting of the training or of the model, such as training.batch_size=8192, model.dim=16.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Train a model on a prepared dataset, on all GPUs that this process sees.

    On several machines start the same command on each, with [bold]TF_CONFIG[/bold] saying who the workers are (Kubeflow's training jobs set
    it) and --out on a disk that all of them see; docs/training.md has an example for two processes on a laptop. Ctrl-C or SIGTERM
    saves a checkpoint; the same command goes on from it. When a worker is lost, the others end with status 1: start all again.

    [bold]Exit status[/bold]: 0 done, 1 could not train or another worker was lost, 2 wrong usage, 130 interrupted.
    """
    topics = nested(settings or [], ["training", "model"])
    start_tensorflow()
    # The connection between workers has to be made before anything else is asked of TensorFlow.
    from clickmill.training.cluster import VARIABLE, strategy

    together = strategy(os.environ.get(VARIABLE, ""))
    from clickmill.data import PreparedDataset
    from clickmill.training import TrainingConfig
    from clickmill.training import train as train_model

    config = typed("training", TrainingConfig, topics["training"])
    if together is not None:
        words.print(f"trains with {together.num_replicas_in_sync} replicas")
    prepared = PreparedDataset.open(dataset)
    with Bars() as bars:
        trained = train_model(
            prepared,
            learned_space(prepared),
            model,
            model_config=topics["model"],
            config=config,
            strategy=together,
            out=out,
            progress=bars,
        )
    best = next(r for r in trained.meta["history"] if r["epoch"] == trained.meta["best_epoch"])
    if json:
        print_json({"model": model, "out": out, **best})
    else:
        print_facts("Trained", {"model": model, "out": out, **best})
