"""Callers who go on while something is done to the cluster: every request on a new connection, every failure remembered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from itertools import count
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from serving.in_service import HEADER_DIGEST
from serving.router import HEADER_USER


class Callers:
    """A context manager: `threads` callers, each with a pause between its requests, each request another user's."""

    def __init__(
        self, url: str, rows: list[dict[str, Any]], *, threads: int = 2, pause_seconds: float = 0.05
    ):
        self._url, self._body = urlsplit(url), json.dumps({"instances": rows}).encode()
        self._pause = pause_seconds
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]
        self._numbers = count()
        self.failures: list[str] = []
        self.answered = 0
        self.bundles: Counter[str] = Counter()
        """Answers by the digest of the bundle that gave them."""

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
            # a new connection each time: kube-proxy chooses the pod by connection
            connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30.0)
            headers = {"content-type": "application/json", HEADER_USER: f"user {next(self._numbers)}"}
            try:
                connection.request("POST", self._url.path, self._body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    self.answered += 1
                    self.bundles[answer.headers.get(HEADER_DIGEST, "")] += 1
                else:
                    words = said[:200].decode(errors="replace")
                    self.failures.append(f"{time.strftime('%T')} {answer.status} {words}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{time.strftime('%T')} {type(error).__name__} {error}")
            finally:
                connection.close()
            self._stop.wait(self._pause)
