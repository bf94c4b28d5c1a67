"""Traffic: rows of a table sent at a given rate, open loop, and what came back and when.

Requests have their times before the first is sent, and a latency counts from that time and not from when a busy client got
round to it: a server that stalls for a second shows a second, not one slow request (coordinated omission). See `load`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.errors import UsageError
from serving.load import Answer, HttpExchange, Load, constant, http_request, open_loop
from serving.load.http import header
from serving.rows import batches, json_rows


@dataclass(frozen=True)
class Traffic:
    """What a replay saw: its load, and what the answers said."""

    load: Load
    """Times and statuses by request."""
    pctr: np.ndarray
    """By row, NaN where the request failed."""
    versions: np.ndarray
    """Bundle version named by each answer ("" where there was none)."""

    @property
    def latency_ms(self) -> np.ndarray:
        """From the scheduled time of a request to its last byte; NaN where it failed."""
        return self.load.latency_ms

    @property
    def count(self) -> int:
        """Requests sent."""
        return len(self.load.ok)

    @property
    def errors(self) -> int:
        """Requests without a prediction."""
        return int((~self.load.ok).sum())

    @property
    def rate(self) -> float:
        """Requests answered with a prediction, a second."""
        return self.load.rate

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
        return self.load.quantile_ms(q)


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
    path = f"/v1/models/{model_name}:predict"
    # made before the clock starts: the client shall not be what is measured
    requests = [
        http_request(path, orjson.dumps({"instances": json_rows(part, columns)}), host=parts.netloc)
        for part in batches(source, rows_per_request)
    ]
    answers: list[Answer | None] = [None] * len(requests)
    due = constant(rate_per_second, len(requests))
    load = open_loop(
        (parts.hostname, parts.port or 80),
        HttpExchange,
        requests or [b""],
        due,
        connections=concurrency,
        timeout_seconds=timeout_seconds,
        on_answer=answers.__setitem__,
    )
    sizes = [min(rows_per_request, source.num_rows - i * rows_per_request) for i in range(len(requests))]
    pctr = [_pctr(answer, size) for answer, size in zip(answers, sizes, strict=True)]
    versions = [header(answer.head, "x-clickmill-version") if answer else "" for answer in answers]
    return Traffic(load, np.array([p for part in pctr for p in part], np.float64), np.array(versions))


def _pctr(answer: Answer | None, rows: int) -> list[float]:
    if answer is None or not answer.ok:
        return [float("nan")] * rows
    return [item["pctr"] for item in orjson.loads(answer.body)["predictions"]]
