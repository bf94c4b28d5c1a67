"""What kfp.local itself says during a local run: kept in a file, read only for the steps it took from the cache."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.local_steps import LocalSteps, StepEvent

_HIT = re.compile(r"Task (\S+) cache hit")


class _CacheHits(logging.Handler):
    """kfp.local tells of a cache hit in a log line and nowhere else."""

    def __init__(self, steps: LocalSteps, models: Sequence[str]) -> None:
        super().__init__(logging.INFO)
        self._steps, self._models, self._hits = steps, models, 0

    def emit(self, record: logging.LogRecord) -> None:
        hit = _HIT.search(record.getMessage())
        if hit is None:
            return
        step = hit.group(1).replace("-", "_")
        if step == "train":
            # The loop runs its models in their order, one at a time, so the next one is the one that was hit.
            trained = sum(execution.component == "train" for execution in self._steps.executions)
            step = f"train {self._models[trained + self._hits]}"
            self._hits += 1
        self._steps.watch(StepEvent(step, "cached"))


@contextmanager
def engine_log(path: Path, steps: LocalSteps, models: Sequence[str]) -> Iterator[None]:
    """Send stdout, the root logger and the warnings of kfp.local to a file; announce cached steps through `steps.watch`."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with path.open("a", buffering=1) as file, contextlib.redirect_stdout(file), warnings.catch_warnings():
        # Resources, display names and the like have no effect here; kfp says so for every step.
        warnings.filterwarnings("ignore", module=r"kfp\.local")
        root.handlers = [logging.StreamHandler(file), _CacheHits(steps, models)]
        root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.handlers = handlers
            root.setLevel(level)
