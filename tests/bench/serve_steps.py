"""Whether latency has a step: the first requests after the endpoint says ready, and those of a bundle that takes over under load."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from serve_bundle import NAME, copy_as, raw_rows
from serve_sides import Side, address_of, on_core

from clickmill.bundle import Bundle
from serving.load import Answer, Speech, constant, prepare
from serving.load.http import header
from serving.process import Endpoint, running_server

FIRST = 50
RATE = 100.0
ROWS = 32


@dataclass(frozen=True)
class Step:
    """Medians over the times it was tried."""

    first_ms: float
    """Latency that 9 in 10 of the first 50 requests stay below."""
    steady_ms: float
    """The same of the steady state."""
    worst_ms: float
    """Slowest of the first 50."""
    meanwhile_ms: float = float("nan")
    """p99 while the new bundle was being loaded."""
    refused: float = 0
    """Requests without a good answer."""

    @property
    def ratio(self) -> float:
        """1 where there is no step."""
        return self.first_ms / self.steady_ms


def _side(bundle: Bundle, endpoint: Endpoint) -> Side:
    prepared = prepare(raw_rows(ROWS), bundle.contract, Speech.V1, ROWS, model_name=NAME)
    return Side("ours V1 JSON", address_of(endpoint, prepared), prepared, endpoint.process.pid)


def _p(values: np.ndarray, q: float) -> float:
    return float(np.nanquantile(values, q))


def at_start(bundle: Bundle, core: int | None, times: int) -> Step:
    """Requests of 32 rows at 100 a second, from the moment the endpoint says ready."""
    found = []
    for _ in range(times):
        with on_core(core), running_server(bundle.path, model_name=NAME, wait=False) as endpoint:
            side = _side(bundle, endpoint)
            endpoint.wait_until_ready()
            load = side.open(constant(RATE, 400))
            latency = load.latency_ms
            found.append(
                Step(
                    _p(latency[:FIRST], 0.9),
                    _p(latency[2 * FIRST :], 0.9),
                    _p(latency[:FIRST], 1.0),
                    refused=int((~load.ok).sum()),
                )
            )
    return _median(found)


def at_reload(bundle: Bundle, core: int | None, times: int) -> Step:
    """The same while further versions appear in the store, one after the other."""
    with tempfile.TemporaryDirectory() as temp:
        store, ready = Path(temp) / "store", Path(temp) / "ready"
        shutil.copytree(bundle.path, store / "1")
        for version in range(2, times + 2):
            copy_as(bundle.path, ready / str(version), f"version {version}")
        with on_core(core), running_server(store, model_name=NAME, watch_seconds=0.2, wait=False) as endpoint:
            side = _side(bundle, endpoint)
            endpoint.wait_until_ready()
            side.closed(1.0)
            return _median([_reload(side, store, ready, version) for version in range(2, times + 2)])


def _reload(side: Side, store: Path, ready: Path, version: int) -> Step:
    appears, longest, after_it = 2.0, 60.0, 2.0
    found: dict[int, bool] = {}
    """By request: whether the new version answered."""

    def heard(i: int, answer: Answer) -> None:
        found[i] = header(answer.head, "x-clickmill-version") == str(version)

    appear = threading.Timer(appears, lambda: (ready / str(version)).rename(store / str(version)))
    appear.start()
    load = side.open(
        constant(RATE, int(longest * RATE)), heard, lambda: sum(found.values()) >= after_it * RATE
    )
    appear.join()
    after = [i for i, new in sorted(found.items()) if new]
    if not after:
        raise RuntimeError(f"version {version} did not take over within {longest:g} s: {load.first_errors}")
    latency, begins = load.latency_ms, int(appears * RATE)
    first = latency[after[0] : after[0] + FIRST]
    return Step(
        _p(first, 0.9),
        _p(latency[:begins], 0.9),
        _p(first, 1.0),
        _p(latency[begins : after[0]], 0.99),
        int((~load.ok).sum()),
    )


def _median(found: list[Step]) -> Step:
    parts = [(s.first_ms, s.steady_ms, s.worst_ms, s.meanwhile_ms, s.refused) for s in found]
    return Step(*(statistics.median(values) for values in zip(*parts, strict=True)))
