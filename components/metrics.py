"""Numbers for the Kubeflow UI, and the same numbers as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def log_metrics(artifact: Any, figures: Mapping[str, float | None], **more: Any) -> None:
    """Show finite `figures` on a Metrics artifact and write them, with `more`, as JSON to its path.

    The file is not for show: kfp.local's cache takes an artifact without one for lost and would run the step again.
    """
    finite = {
        name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)
    }
    for name, value in finite.items():
        artifact.log_metric(name, value)
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metrics": finite, **more}, indent=2, default=str) + "\n")
