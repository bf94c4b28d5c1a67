"""What something was, each time it was looked at, while something else went on."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Sampled:
    """A context manager: looks every fifth of a second. What can't be seen just then is not kept."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look, self._stop = look, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: list[Any] = []
        """Each value as often as it was seen, in order."""

    def __enter__(self) -> Sampled:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            try:
                self.seen.append(self._look())
            except (subprocess.SubprocessError, KeyError):
                continue  # the API server is busy, or the object is not there yet
