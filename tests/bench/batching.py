"""What micro-batching is worth: many clients without pause, the same endpoint with and without it, alternating in one run.

    python tests/bench/batching.py [--clients 16] [--seconds 2] [--rounds 3] [--rows 1,8,32]

`cpu ms` is processor time of the endpoint for a request: the clients share the machine, so it is the column to believe. `runs` is requests
in a run of the graph. The bundle is that of `serve.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import httpx
from serve_bundle import NAME, contract, raw_rows, write_bundle
from serve_reading import cpu_seconds
from serve_sides import Side, address_of

from serving.load import Speech, prepare
from serving.process import Endpoint, running_server

SETTINGS: dict[str, dict[str, float]] = {
    "alone": {},
    "alone, limit on": {"shed_wait_ms": 25.0},
    "512 rows, no wait": {"batch_rows": 512},
}


def crowd(endpoint: Endpoint, rows: int, clients: int, seconds: float) -> tuple[float, float, float, float]:
    """Requests a second, p50 and p99 in ms, and the endpoint's processor time in ms a request."""
    prepared = prepare(raw_rows(rows), contract(20_000), Speech.V2, rows, model_name=NAME)
    side = Side("V2 binary", address_of(endpoint, prepared), prepared, endpoint.process.pid)
    side.closed(seconds / 4, clients)
    before = cpu_seconds(endpoint.process.pid)
    load = side.closed(seconds, clients)
    spent = cpu_seconds(endpoint.process.pid) - before
    return load.rate, load.quantile_ms(0.5), load.quantile_ms(0.99), spent / len(load.ok) * 1e3


def requests_a_run(endpoint: Endpoint) -> float:
    lines = httpx.get(f"{endpoint.url}/metrics").text.splitlines()
    found = [
        float(next((line.split()[-1] for line in lines if line.startswith(f"clickmill_batch_requests_{part}{{")), 0))
        for part in ("sum", "count")
    ]  # fmt: skip
    return found[0] / found[1] if found[1] else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default="1,8,32", help="candidates in a request, by commas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp, contextlib.ExitStack() as stack:
        path = write_bundle(Path(temp), 20_000)
        endpoints = {
            name: stack.enter_context(
                running_server(path, model_name=NAME, wait=False, **{"shed_wait_ms": 0, **settings})
            )
            for name, settings in SETTINGS.items()
        }
        for endpoint in endpoints.values():
            endpoint.wait_until_ready()
        print(f"{'rows':>5} {'':18} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'cpu ms':>8} {'runs':>6}")
        for rows in map(int, options.rows.split(",")):
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in endpoints}
            for _ in range(options.rounds):
                for name, endpoint in endpoints.items():
                    found[name].append(crowd(endpoint, rows, options.clients, options.seconds))
            for name, runs in found.items():
                rate, p50, p99, cpu = (statistics.median(part) for part in zip(*runs, strict=True))
                shared = requests_a_run(endpoints[name])
                print(
                    f"{rows:5} {name:18} {rate:8.0f} {p50:8.2f} {p99:8.2f} {cpu:8.2f} {shared:6.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
