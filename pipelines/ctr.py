"""The training pipeline: logs in, a calibrated bundle out, deployed when the gate says so.

    validate_data -> preprocess -> for each model: train -> calibrate -> validate_model -> if promoted: deploy
    and, whatever happened, report

The same function is compiled for Kubeflow Pipelines and run on this machine by `pipelines.local`.
"""

# kfp reads the annotations of a pipeline as objects, so there is no `from __future__ import annotations` here.
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035  kfp knows these

from kfp import compiler, dsl

from components.calibrate import calibrate
from components.deploy import deploy
from components.preprocess import preprocess
from components.report import report
from components.train import train
from components.validate_data import validate_data
from components.validate_model import validate_model
from pipelines.build import LIGHT, MODEL, TABLES, Build

NAME = "clickmill-ctr"
PROMOTE = "promote"


def build_pipeline(build: Build = Build()) -> Any:  # noqa: B008  frozen
    """The pipeline with the knobs of `build` set: what kfp compiles, or runs when called."""

    @dsl.pipeline(name=NAME, display_name="Clickmill: click probability")
    def ctr_pipeline(
        contract: str,
        impressions: List[str],  # noqa: UP006
        clicks: List[str] = [],  # noqa: UP006, B006
        truth: List[str] = [],  # noqa: UP006, B006
        test: List[str] = [],  # noqa: UP006, B006
        models: List[str] = ["lr", "dcn_v2"],  # noqa: UP006, B006
        variants: Dict[str, Any] = {},  # noqa: UP006, B006
        model_configs: Dict[str, Any] = {},  # noqa: UP006, B006
        training: Dict[str, Any] = {},  # noqa: UP006, B006
        preparation: Dict[str, Any] = {},  # noqa: UP006, B006
        negatives_kept: float = 1.0,
        positive_weight: float = 1.0,
        max_quarantine_share: float = 0.01,
        seed: int = 0,
        export: Dict[str, Any] = {},  # noqa: UP006, B006
        gate: Dict[str, Any] = {},  # noqa: UP006, B006
        store: str = "",
        release: Dict[str, Any] = {},  # noqa: UP006, B006
        start: str = "",
        work: str = "",
        inputs_digest: str = "",
    ):
        """Turn an ad platform's logs into a calibrated click probability and deploy it when it beats the champion.

        Args:
            contract: Feature contract: path of the YAML file on a mounted volume, or its text.
            impressions: Impression log: paths of files or folders, or patterns such as /mnt/logs/2026-11-*/*.parquet.
            clicks: Click log, joined to the impressions by their id; empty when the impressions carry their label.
            truth: True click probabilities of a simulated market, used in evaluation only; empty for a real one.
            test: Test files, when the test split is not cut from the impressions by time.
            models: Models, or variants, to train side by side: lr, fm, wide_deep, dcn_v2, ... The best of them by normalized entropy faces the gate.
            variants: Training configurations by a name of their own, such as {"wide": {"model": "dcn_v2", "model_config": {"dim": 32}, "training": {"l2": 10}}}; named in `models`, each is trained like a model.
            model_configs: Hyperparameters by model name, such as {"dcn_v2": {"dim": 16}}.
            training: Settings of the training run, such as {"epochs": 3, "batch_size": 4096}.
            preparation: How the rows are joined and split, such as {"window": "24h", "fractions": [0.7, 0.1, 0.1, 0.1]}.
            negatives_kept: Share of non-clicks kept in train and validation; the prior is corrected by it.
            positive_weight: Weight of a click in the loss, 1 to 100; the prior is corrected by it.
            max_quarantine_share: Share of rows that may break the contract before the run stops.
            seed: Seed of everything random.
            export: How the graph stores its embedding rows, such as {"rows": "int8"}; float32 by default.
            gate: Settings of the gate, such as {"max_ece": 0.02}.
            store: Model store: a folder on a mounted volume that the endpoint watches. The newest version is the champion. Empty: no champion, nothing is deployed.
            release: On a cluster with the release operator: the ModelRelease that gets the bundle, such as {"name": "ctr", "store_uri": "pvc://models/ctr"}; the run fails when it is taken back. Empty: the endpoint watches the store itself.
            start: Warm start: a bundle whose weights the model of its name begins with, or a model store (usually `store`) for its newest version; empty: from scratch. A cached training does not notice that a store has a newer version.
            work: Folder on a mounted volume where unfinished training waits for its retry; empty: training starts anew.
            inputs_digest: Change it when files of the same name hold other rows: it is part of the cache key of the first step.
        """
        finish = report(models=models, store=store)
        build.equip(finish, "Report", LIGHT, cached=False)
        with dsl.ExitHandler(finish, name="run"):
            checked = validate_data(
                contract=contract,
                impressions=impressions,
                clicks=clicks,
                truth=truth,
                test=test,
                max_quarantine_share=max_quarantine_share,
                inputs_digest=inputs_digest,
            )
            build.equip(checked, "Validate data", TABLES)
            prepared = preprocess(
                validated=checked.outputs["validated"],
                preparation=preparation,
                negatives_kept=negatives_kept,
                seed=seed,
            )
            build.equip(prepared, "Preprocess", TABLES)
            dataset = prepared.outputs["dataset"]
            # Only artifacts and parameters of the pipeline go into the loop: kfp.local replaces an output *parameter* of an
            # earlier step by the loop's item (create_parameter_loop_iteration_task_spec).
            with dsl.ParallelFor(models, parallelism=build.models_at_once, name="each model") as model:
                fitted = train(
                    dataset=dataset,
                    model=model,
                    variants=variants,
                    model_configs=model_configs,
                    training=training,
                    positive_weight=positive_weight,
                    seed=seed,
                    start=start,
                    work=work,
                )
                build.equip(fitted, "Train", build.training)
                build.accelerate(fitted)
                # Not cached: the bundle names the champion of the day as its parent.
                calibrated = calibrate(
                    dataset=dataset, trained=fitted.outputs["trained"], store=store, export=export, seed=seed
                )
                build.equip(calibrated, "Calibrate", MODEL, cached=False)
            judged = validate_model(
                dataset=dataset,
                bundles=dsl.Collected(calibrated.outputs["bundle"]),
                store=store,
                gate=gate,
                seed=seed,
            )
            build.equip(judged, "Validate model", MODEL, cached=False)
            # kfp.local finds the value of a condition only when it is the task's single return value.
            with dsl.If(judged.outputs["Output"] == PROMOTE, name="promoted"):
                shipped = deploy(bundle=judged.outputs["best"], store=store, release=release)
                build.equip(shipped, "Deploy", LIGHT, cached=False)

    return ctr_pipeline


ctr_pipeline = build_pipeline()
"""The pipeline with the default knobs."""


def compile_pipeline(path: Path, **knobs: Any) -> Path:
    """Write the pipeline as the YAML that Kubeflow Pipelines takes; `knobs` are the fields of `pipelines.build.Build`.

    The same code and knobs give the same bytes. Raises pydantic's ValidationError for a knob that makes no sense.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        compiler.Compiler().compile(build_pipeline(Build(**knobs)), str(path))
    return path
