"""The endpoint as a child process, with what a test needs to bring it into trouble quickly: a graph that takes its time, short limits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving import http_protocol
from serving.engines import load_verified
from serving.limits import Limits
from serving.prediction_log import LogSettings
from serving.server import serve
from serving.watcher import Loaded

RUN = "from tests.integration.fault_server import main; main()"
"""The program of `serving.process.running_server`; its arguments are those of `serve` and `main`."""


class Slow:
    """A scorer that takes so many seconds more a run, however many rows it is given."""

    def __init__(self, scorer: Any, seconds: float) -> None:
        self._scorer, self._seconds = scorer, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def predict(self, raw: Any) -> Any:
        time.sleep(self._seconds)
        return self._scorer.predict(raw)

    def rank(self, raw: Any) -> Any:
        time.sleep(self._seconds)
        return self._scorer.rank(raw)


def slowly(seconds: float) -> Callable[[Path], Loaded]:
    def load(path: Path) -> Loaded:
        loaded = load_verified(path)
        return replace(loaded, scorer=Slow(loaded.scorer, seconds))

    return load


def main() -> None:
    """`slow_seconds`, `limits` and `log` (fields of their settings), `head_seconds`; the rest goes to `serve`."""
    arguments = json.loads(sys.argv[1])
    slow = arguments.pop("slow_seconds", 0.0)
    limits, log = Limits(**arguments.pop("limits", {})), LogSettings(**arguments.pop("log", {}))
    http_protocol.HEAD_SECONDS = arguments.pop("head_seconds", http_protocol.HEAD_SECONDS)
    serve(**arguments, limits=limits, log_settings=log, load=slowly(slow) if slow else None)
