"""How a side is read: one client without pause, many of them, and arrivals at a fixed rate; sides alternate, medians of rounds count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from serve_sides import Call, Side

from serving.load import poisson


@dataclass(frozen=True)
class Reading:
    """Of one side at one number of rows."""

    p50_ms: float
    p99_ms: float
    """One client without pause."""
    cpu_ms: float
    """Processor time of the answering process a request."""
    most_per_second: float
    """Requests a second of eight clients without pause; of the one caller in-process."""


CLIENTS = 8


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads a process has now."""
    return _scheduled(pid, 0)


def queued_seconds(pid: int) -> float:
    """Time that they were ready to run and another had the core."""
    return _scheduled(pid, 1)


def _scheduled(pid: int, column: int) -> float:
    """Seconds of all threads together, by Linux' schedstat: nanoseconds on a core, and in the queue for one."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[column]) for task in tasks) / 1e9


def read_all(
    sides: Mapping[str, Side], calls: Mapping[str, Call], *, rounds: int, seconds: float
) -> dict[str, Reading]:
    """By name. In each round every side has `seconds` alone and, where there is a server, as long with eight clients."""
    takers: dict[str, Callable[[], Reading]] = {name: _of_call(call, seconds) for name, call in calls.items()}
    takers |= {name: _of_side(side, seconds) for name, side in sides.items()}
    for take in takers.values():
        take()  # warm on both sides
    found: dict[str, list[Reading]] = {name: [] for name in takers}
    for _ in range(rounds):
        for name, take in takers.items():
            found[name].append(take())
    return {name: _median(readings) for name, readings in found.items()}


def _median(readings: list[Reading]) -> Reading:
    return Reading(
        *(statistics.median(values) for values in zip(*map(_figures, readings), strict=True)),
    )


def _figures(reading: Reading) -> tuple[float, ...]:
    return reading.p50_ms, reading.p99_ms, reading.cpu_ms, reading.most_per_second


def _of_side(side: Side, seconds: float) -> Callable[[], Reading]:
    def take() -> Reading:
        before = cpu_seconds(side.pid)
        alone = side.closed(seconds)
        cpu = (cpu_seconds(side.pid) - before) / len(alone.ok) * 1e3
        crowd = side.closed(seconds, clients=CLIENTS)
        return Reading(alone.quantile_ms(0.5), alone.quantile_ms(0.99), cpu, crowd.rate)

    return take


def _of_call(call: Call, seconds: float) -> Callable[[], Reading]:
    def take() -> Reading:
        times: list[float] = []
        end = time.perf_counter() + seconds
        before = time.process_time()
        while (start := time.perf_counter()) < end:
            call()
            times.append(time.perf_counter() - start)
        cpu = (time.process_time() - before) / len(times) * 1e3
        p50, p99 = np.quantile(times, [0.5, 0.99]) * 1e3
        return Reading(float(p50), float(p99), cpu, len(times) / sum(times))

    return take


def time_lost(seconds: float = 1.0) -> tuple[float, float]:
    """Share of the time that a loop that does nothing was not run on this core, and the longest such time in ms: what neighbours take, which no
    latency below can be better than."""
    lost = longest = 0.0
    start = last = time.perf_counter()
    while last < start + seconds:
        now = time.perf_counter()
        if (gap := now - last) > 5e-4:
            lost, longest = lost + gap, max(longest, gap)
        last = now
    return lost / seconds, longest * 1e3


@dataclass(frozen=True)
class AtRate:
    """Of Poisson arrivals: latency counts from when a request was due, and is that of those answered."""

    rate: float
    p50_ms: float
    p99_ms: float
    """Median of the runs, as everywhere here: one stall of the machine makes the p99 of all runs together."""
    worst_ms: float
    """The highest p99 of a run."""
    waited: float
    """Seconds of a second in which threads of the server were ready and stood in the queue for a core, in the run of the highest p99: whether
    that was the machine's doing."""
    failed: float
    """Share that was turned away or broke."""


def at_rate(side: Side, rate: float, *, rounds: int, seconds: float) -> AtRate:
    """Medians of `rounds` runs, each of `seconds`, or of so many that there are a hundred requests in it."""
    count = max(int(rate * seconds), 100)
    p50s, p99s, waits, failed = [], [], [], []
    for seed in range(rounds):
        before = queued_seconds(side.pid)
        load = side.open(poisson(rate, count, seed=seed))
        waits.append((queued_seconds(side.pid) - before) / (count / rate))
        p50, p99 = np.nanquantile(load.latency_ms, [0.5, 0.99])
        p50s.append(float(p50))
        p99s.append(float(p99))
        failed.append(float(np.isnan(load.latency_ms).mean()))
    worst = int(np.argmax(p99s))
    return AtRate(
        rate,
        statistics.median(p50s),
        statistics.median(p99s),
        p99s[worst],
        waits[worst],
        statistics.mean(failed),
    )


def saturation(side: Side, *, rounds: int, seconds: float) -> float:
    """Requests a second of eight clients without pause, median of rounds."""
    side.closed(seconds / 2, clients=CLIENTS)
    return statistics.median(side.closed(seconds, clients=CLIENTS).rate for _ in range(rounds))
