"""Traffic: rows of a table sent at a given rate, open loop, and what came back and when.

Requests have their times before the first is sent, and a latency counts from that time and not from when a busy client got
round to it: a server that stalls for a second shows a second, not one slow request (coordinated omission).
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.errors import UsageError
from serving.rows import batches, json_rows

_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Traffic:
    """What a replay saw. Arrays are by request, in order, except `pctr`: by row, NaN where the request failed."""

    latency_ms: np.ndarray
    """From the scheduled time of a request to its last byte; NaN where it failed."""
    service_ms: np.ndarray
    """From the first byte sent to the last received: free of a late client, blind to a queue that kept it from sending."""
    status: np.ndarray
    """HTTP status of each request; 0 where there was no answer."""
    pctr: np.ndarray
    versions: np.ndarray
    """Bundle version named by each answer ("" where there was none)."""
    first_errors: tuple[str, ...]
    """The first few errors, in words."""
    seconds: float
    """From the first scheduled time to the last answer."""

    @property
    def count(self) -> int:
        """Requests sent."""
        return len(self.status)

    @property
    def errors(self) -> int:
        """Requests without a prediction."""
        return int((self.status != 200).sum())

    @property
    def rate(self) -> float:
        """Requests answered with a prediction, a second."""
        return (self.count - self.errors) / self.seconds if self.seconds else 0.0

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return self.quantile_ms(0.5)

    @property
    def p99_ms(self) -> float:
        """Latency that 99 of 100 requests stay below."""
        return self.quantile_ms(0.99)

    def quantile_ms(self, q: float) -> float:
        """Latency at a quantile of the answered requests, NaN when there are none."""
        answered = self.latency_ms[~np.isnan(self.latency_ms)]
        return float(np.quantile(answered, q)) if len(answered) else float("nan")


def replay(
    table: pa.Table | str | Path,
    url: str,
    *,
    model_name: str,
    columns: tuple[str, ...] | None = None,
    rate_per_second: float = 100.0,
    concurrency: int = 8,
    rows_per_request: int = 1,
    max_requests: int = 10_000,
    timeout_seconds: float = 10.0,
) -> Traffic:
    """Send the rows of a table (or a Parquet file) to an endpoint by V1 and wait for all answers.

    Args:
        table: rows in order; nulls are left out of the requests.
        url: of the server, http://127.0.0.1:8080.
        model_name: name in the URL.
        columns: fields sent; all columns of the table when None (the endpoint refuses those the contract lacks).
        rate_per_second: requests a second; when the endpoint is slower, latencies grow and the rate falls behind.
        concurrency: connections, and so the most requests in flight.
        rows_per_request: candidates in each request.
        max_requests: bound of a replay; further rows are not sent.
        timeout_seconds: after which a request counts as failed.

    Raises UsageError for a rate, concurrency or size below 1 and for a URL that is not http.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"{url}: give the URL of the server, http://HOST:PORT")
    if rate_per_second <= 0 or concurrency < 1 or rows_per_request < 1:
        raise UsageError("rate, concurrency and rows per request must be positive")
    source = table if isinstance(table, pa.Table) else pq.read_table(table)
    source = source.slice(0, max_requests * rows_per_request)
    # bodies are made before the clock starts: the client shall not be what is measured
    bodies = [
        orjson.dumps({"instances": json_rows(part, columns)}) for part in batches(source, rows_per_request)
    ]
    run = _Run(
        bodies,
        parts.hostname,
        parts.port or 80,
        f"/v1/models/{model_name}:predict",
        rate_per_second,
        timeout_seconds,
    )
    started = run.go(min(concurrency, max(len(bodies), 1)))
    sizes = [min(rows_per_request, source.num_rows - i * rows_per_request) for i in range(len(bodies))]
    pctr = [
        found if found is not None else [np.nan] * size for found, size in zip(run.pctr, sizes, strict=True)
    ]
    return Traffic(
        latency_ms=run.latency_ms,
        service_ms=run.service_ms,
        status=run.status,
        pctr=np.array([value for part in pctr for value in part], dtype=np.float64),
        versions=np.array(run.versions),
        first_errors=tuple(run.errors),
        seconds=float(run.finished - started) if bodies else 0.0,
    )


class _Run:
    """The shared state of a replay: workers take the next request, wait for its time, send it."""

    def __init__(
        self, bodies: list[bytes], host: str, port: int, path: str, rate: float, timeout_seconds: float
    ) -> None:
        n = len(bodies)
        self._bodies, self._host, self._port, self._path = bodies, host, port, path
        self._rate, self._timeout = rate, timeout_seconds
        self._next = count()
        self._start = 0.0
        self.latency_ms = np.full(n, np.nan)
        self.service_ms = np.full(n, np.nan)
        self.status = np.zeros(n, np.int64)
        self.versions = [""] * n
        self.pctr: list[list[float] | None] = [None] * n
        self.errors: list[str] = []
        self.finished = 0.0

    def go(self, workers: int) -> float:
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._start = time.perf_counter() + 0.05
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.finished = time.perf_counter()
        return self._start

    def _work(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            while (index := next(self._next)) < len(self._bodies):
                due = self._start + index / self._rate
                if (wait := due - time.perf_counter()) > 0:
                    time.sleep(wait)
                self._send(connection, index, due)
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, index: int, due: float) -> None:
        for attempt in (0, 1):
            reused = connection.sock is not None
            sent = time.perf_counter()
            try:
                connection.request(
                    "POST", self._path, self._bodies[index], {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                body = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # a server may close an idle connection as we write to it: that is once more, on a new one
                if attempt or not reused or isinstance(error, TimeoutError):
                    self._failed(index, f"{type(error).__name__}: {error}")
                    return
        done = time.perf_counter()
        self.status[index] = answer.status
        if answer.status != 200:
            self._failed(index, f"HTTP {answer.status}: {body[:200].decode(errors='replace')}")
            return
        self.latency_ms[index] = (done - due) * 1e3
        self.service_ms[index] = (done - sent) * 1e3
        self.versions[index] = answer.headers.get("x-clickmill-version", "")
        self.pctr[index] = [item["pctr"] for item in orjson.loads(body)["predictions"]]

    def _failed(self, index: int, words: str) -> None:
        if len(self.errors) < _SHOWN_ERRORS:
            self.errors.append(f"request {index}: {words}")
