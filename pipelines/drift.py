"""The monitoring pipeline: one look at drift, to be run on a schedule; a drift may start the training pipeline."""

# kfp reads the annotations of a pipeline as objects, so there is no `from __future__ import annotations` here.
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035  kfp knows these

from kfp import compiler, dsl, kubernetes

from components.monitor import monitor
from pipelines.build import TABLES, Build

NAME = "clickmill-drift"
SALT_KEY = "salt"
"""Key of the Secret that holds the salt of the prediction log."""


def build_pipeline(build: Build = Build(), salt_secret: str = "") -> Any:  # noqa: B008  frozen
    """The pipeline with the knobs of `build` set; `salt_secret` names the Secret whose key `salt` is the prediction log's salt."""

    @dsl.pipeline(name=NAME, display_name="Clickmill: drift")
    def drift_pipeline(
        store: str,
        folder: str,
        log: str = "",
        impressions: List[str] = [],  # noqa: UP006, B006
        drift: Dict[str, Any] = {},  # noqa: UP006, B006
        retrain: Dict[str, Any] = {},  # noqa: UP006, B006
        push: str = "",
    ):
        """Look once whether live rows have drifted from those the serving bundle was calibrated on.

        Args:
            store: Model store that the endpoint watches, on a mounted volume.
            folder: Folder on a mounted volume where windows, drift.prom and the record of trainings are kept.
            log: Folder of the prediction log; or give `impressions`.
            impressions: Impression log: paths of files or folders, or patterns.
            drift: Settings of the look, such as {"window_hours": 24, "ignored": ["user_id"]}.
            retrain: The training that a drift may start, such as {"pipeline": "/mnt/ctr.yaml", "arguments": {"store": "/mnt/store"}}; empty: none.
            push: Group of a Pushgateway that gets the figures, such as http://pushgateway:9091/metrics/job/ctr-drift; empty: none.
        """
        looked = monitor(
            store=store,
            log=log,
            impressions=impressions,
            folder=folder,
            drift=drift,
            retrain=retrain,
            push=push,
        )
        # Never cached: the same words are asked about other rows every hour.
        build.equip(looked, "Monitor drift", TABLES, cached=False)
        if salt_secret:
            kubernetes.use_secret_as_env(looked, salt_secret, {SALT_KEY: "CLICKMILL_LOG_SALT"})

    return drift_pipeline


def compile_pipeline(path: Path, *, salt_secret: str = "", **knobs: Any) -> Path:
    """Write the pipeline as YAML; `knobs` are the fields of `pipelines.build.Build`. The same code and knobs give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        compiler.Compiler().compile(build_pipeline(Build(**knobs), salt_secret), str(path))
    return path
