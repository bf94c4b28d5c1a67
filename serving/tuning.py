"""Which settings of the endpoint are best here: each is started as a process of its own and put under load, one after the other.

First threads, then on the best of those rows of a shared run, then the wait for company: three ladders and not their product, since
each start costs seconds. A setting is judged by the highest rate of Poisson arrivals at which its p99 holds; where none holds it, by
its p99 at the lowest. The generator is on the same machine: on one with few cores the real endpoint can do more.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.capacity import Loaded, Measured, Point
from clickmill.contract import FeatureContract
from clickmill.errors import RequestError
from serving.load import Load, Prepared, Speech, closed_loop, open_loop, poisson, prepare
from serving.process import Endpoint, running_server

SHARES = (0.4, 0.55, 0.7, 0.8, 0.9)
"""Of saturation: the rates at which p99 is looked at, up to the first that breaks it."""
CLIENTS = 16
"""That ask without pause, for saturation. As many as load shedding always lets in."""
_LEAST_REQUESTS = 300
"""Of an open loop: a p99 rests on three of them."""


@dataclass(frozen=True)
class Setting:
    """What is chosen; the names are those of `serving.server.serve`."""

    threads: int
    batch_rows: int = 0
    batch_wait_us: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A setting under load."""

    setting: Setting
    saturation: float
    """Requests a second of 16 clients without pause."""
    idle: np.ndarray
    """(n,) latencies in ms of one client without pause."""
    rate: float
    """Highest rate tried at which p99 holds; 0 where none does."""
    p50_ms: float
    """At that rate, or at the lowest."""
    p99_ms: float
    memory_mib: float
    loaded: tuple[Loaded, ...] = ()
    """Every rate that was carried without a refusal, with its p99."""

    def idle_ms(self, q: float) -> float:
        """Latency of an idle endpoint at a quantile."""
        return float(np.quantile(self.idle, q))


@dataclass(frozen=True)
class Job:
    """What is tuned, and for which promise."""

    bundle: Path
    contract: FeatureContract
    raw: Mapping[str, np.ndarray]
    """Rows to ask with."""
    model_name: str
    speech: Speech
    candidates: int
    p99_ms: float
    seconds: float
    """Length of one measurement."""
    cores: int

    def prepared(self, candidates: int) -> Prepared:
        """Requests of so many candidates."""
        return prepare(self.raw, self.contract, self.speech, candidates, model_name=self.model_name)


def cores_here() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def ladders(job: Job) -> int:
    """The most settings `search` tries."""
    first = Setting(threads=0)
    return len(_threads(job, first)) + len(_rows(job, first)) + len(_WAITS)


def search(
    job: Job,
    on_trial: Callable[[Trial], None],
    try_out: Callable[[Job, Setting], Trial] | None = None,
) -> Trial:
    """Try settings and return the best; `on_trial` hears of each as it is measured, `try_out` is `attempt` but in tests.

    Raises EndpointFailed, and RequestError when the endpoint refuses the requests.
    """
    best: Trial | None = None
    for step in (_threads, _rows, _waits):
        start = best.setting if best else Setting(threads=0)
        for setting in step(job, start):
            tried = (try_out or attempt)(job, setting)
            on_trial(tried)
            if best is None or better(tried, best):
                best = tried
    assert best is not None, "the first ladder has a rung"
    return best


def better(a: Trial, b: Trial) -> bool:
    """Whether a is to be preferred: 3 % more requests within the promise, or a lower p99 where neither keeps it. The margin keeps noise
    from choosing, and what was tried first, which is simpler, stays."""
    if a.rate or b.rate:
        return a.rate > 1.03 * b.rate
    return a.p99_ms < 0.97 * b.p99_ms


_WAITS = (100.0, 300.0)


def _threads(job: Job, start: Setting) -> list[Setting]:
    counts = sorted({0, 1, job.cores, max(1, job.cores // 2)})
    return [replace(start, threads=count) for count in counts]


def _rows(job: Job, start: Setting) -> list[Setting]:
    sizes = sorted({4 * job.candidates, max(512, 2 * job.candidates)})
    return [replace(start, batch_rows=size) for size in sizes]


def _waits(job: Job, start: Setting) -> list[Setting]:
    return [replace(start, batch_wait_us=wait) for wait in _WAITS] if start.batch_rows else []


def attempt(job: Job, setting: Setting) -> Trial:
    """Start the endpoint with a setting and measure it. Nothing is turned away meanwhile, so that queues show."""
    with _endpoint(job, setting, shed_wait_ms=0.0) as endpoint:
        return measure(job, setting, endpoint)


def measure(job: Job, setting: Setting, endpoint: Endpoint) -> Trial:
    """Put a running endpoint under load."""
    prepared = job.prepared(job.candidates)
    crowd = _without_pause(job, prepared, endpoint, CLIENTS)
    idle = _without_pause(job, prepared, endpoint, 1)
    best = chosen = None
    loaded = []
    for share in SHARES:
        rate = share * crowd.rate
        load = _at_rate(job, prepared, endpoint, rate)
        chosen = chosen or load
        if load.ok.all():
            loaded.append(Loaded(per_second=rate, p99_ms=load.quantile_ms(0.99)))
        if load.quantile_ms(0.99) > job.p99_ms or not load.ok.all():
            break
        best, chosen = rate, load
    assert chosen is not None
    return Trial(
        setting,
        crowd.rate,
        idle.latency_ms,
        best or 0.0,
        chosen.quantile_ms(0.5),
        chosen.quantile_ms(0.99),
        resident_mib(endpoint.process.pid),
        tuple(loaded),
    )


def figures(job: Job, best: Trial, sizes: tuple[int, ...], bundle: str, machine: str) -> Measured:
    """The best setting as `clickmill capacity` reads it, also at other numbers of candidates, for which it is started once more."""
    points = {job.candidates: Point.of_sample(job.candidates, best.saturation, best.idle, best.loaded)}
    others = [size for size in sizes if size not in points]
    if others:
        with _endpoint(job, best.setting, shed_wait_ms=0.0) as endpoint:
            for size in others:
                found = measure(replace(job, candidates=size), best.setting, endpoint)
                points[size] = Point.of_sample(size, found.saturation, found.idle, found.loaded)
    return Measured(
        cores=job.cores,
        memory_mib=best.memory_mib,
        points=tuple(points[size] for size in sorted(points)),
        bundle=bundle,
        machine=machine,
        protocol=job.speech.value,
    )


def shed_wait_ms(p99_ms: float, idle_p99_ms: float) -> float:
    """Mean wait before scoring beyond which requests had better be turned away: waits have an exponential tail, whose p99 is ln 100
    times its mean, and that shall fit between the latency of an idle endpoint and the promise. At least 1 ms.

    >>> round(shed_wait_ms(10.0, 5.4), 3)
    1.0
    >>> round(shed_wait_ms(25.0, 2.0), 2)
    4.99
    """
    return max(1.0, (p99_ms - idle_p99_ms) / math.log(100))


def under_overload(job: Job, setting: Setting, shed_ms: float, rate: float) -> Load:
    """Arrivals at `rate` with load shedding on."""
    with _endpoint(job, setting, shed_wait_ms=shed_ms) as endpoint:
        prepared = job.prepared(job.candidates)
        _without_pause(job, prepared, endpoint, 1)
        return _at_rate(job, prepared, endpoint, rate)


def _endpoint(job: Job, setting: Setting, **options: Any) -> Any:
    return running_server(
        job.bundle,
        model_name=job.model_name,
        threads=setting.threads,
        batch_rows=setting.batch_rows,
        batch_wait_us=setting.batch_wait_us,
        **options,
    )


def _address(endpoint: Endpoint, prepared: Prepared) -> tuple[str, int]:
    text = endpoint.grpc_target if prepared.over_grpc else endpoint.url.removeprefix("http://")
    host, port = text.rsplit(":", 1)
    return host, int(port)


def _without_pause(job: Job, prepared: Prepared, endpoint: Endpoint, clients: int) -> Load:
    address = _address(endpoint, prepared)

    def run(seconds: float) -> Load:
        return closed_loop(address, prepared.dial, prepared.requests, clients=clients, seconds=seconds)

    run(job.seconds / 4)  # warm
    load = run(job.seconds)
    if not load.ok.all():
        raise RequestError(f"the endpoint refuses rows of its own bundle: {load.first_errors[0]}")
    return load


def _at_rate(job: Job, prepared: Prepared, endpoint: Endpoint, rate: float) -> Load:
    due = poisson(rate, max(_LEAST_REQUESTS, int(rate * job.seconds)), seed=0)
    return open_loop(_address(endpoint, prepared), prepared.dial, prepared.requests, due, connections=256)


def resident_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
