"""How a drift is answered on a cluster, as a pipeline carries it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.typed_settings import typed_settings


class KubeflowRetraining(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The run that a drift may start."""

    pipeline: Path
    """Compiled training pipeline on a mounted volume (`pipelines/compiled/ctr.yaml`)."""
    arguments: dict[str, Any] = {}
    """Its parameters: contract, impressions, store and the like."""
    host: str | None = None
    """Address of the API of Kubeflow Pipelines; absent: as kfp finds it from inside of the cluster."""
    experiment: str = "clickmill"
    """Experiment under which the run is listed."""
    budget: dict[str, Any] = {}
    """Settings of the budget, such as {"per_hours": 24, "windows": 2}."""


def retraining_of(given: Mapping[str, Any]) -> KubeflowRetraining | None:
    """None for an empty mapping: drift starts nothing. Raises UsageError for one that makes no sense."""
    return typed_settings("retrain", KubeflowRetraining, given) if given else None
