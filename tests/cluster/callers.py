"""Callers who go on while something is done to the cluster: every request on a new connection, every failure remembered."""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import Any

import httpx


class Callers:
    """A context manager: `threads` callers, each with a pause between its requests."""

    def __init__(
        self, url: str, rows: list[dict[str, Any]], *, threads: int = 2, pause_seconds: float = 0.05
    ):
        self._url, self._body = url, json.dumps({"instances": rows}).encode()
        self._pause = pause_seconds
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]
        self.failures: list[str] = []
        self.answered = 0

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                # a new connection each time: kube-proxy chooses the pod by connection
                answer = httpx.post(
                    self._url,
                    content=self._body,
                    headers={"content-type": "application/json"},
                    timeout=30.0,
                    trust_env=False,
                )
                if answer.status_code != 200:
                    self.failures.append(f"{time.strftime('%T')} {answer.status_code} {answer.text[:200]}")
                else:
                    self.answered += 1
            except httpx.TransportError as error:
                self.failures.append(f"{time.strftime('%T')} {type(error).__name__} {error}")
            self._stop.wait(self._pause)
