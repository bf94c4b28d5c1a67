"""The queue of one replica: M/G/c, with Erlang's probability of waiting and an exponential tail of the wait.

    a   = rate * s                                      load in erlangs; s is the mean time a request occupies one of c servers
    B   = (a^c / c!) / sum_{k<=c} a^k / k!              Erlang B; here for real c: 1 / B = a int_0^inf exp(-a u) (1 + u)^c du
    C   = B / (1 - rho (1 - B)),  rho = a / c           Erlang C: probability that a request waits
    tau = (1 + v) / 2 * s / (c - a)                     mean wait of those that wait; v is the squared coefficient of variation of s
    P(W > t) = C exp(-t / tau)
    T = L + W                                           latency: that of an idle replica, as measured, and the wait, independent

Exact for M/M/c (v = 1), and E[W] is Pollaczek and Khinchine's for M/G/1. Else an approximation: the mean is that of Lee and Longton
(1959), the exponential tail that of heavy traffic (Kingman 1962). Erlang (1917); the continuation to real c is Jagerman's (1974). Real c
is needed because a replica is not c equal servers: it reads on one thread and scores on others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clickmill.errors import UsageError

Floats = npt.NDArray[np.float64]

_LARGE_LOAD = 100.0
_NODES = 40
_WILDEST = 1e6
"""Variation beyond which none is looked for: waits of a million times the service are a fault, no queue."""


def erlang_b(servers: float, load: float) -> float:
    """Probability that all of `servers` are busy, when requests that find them so go away.

    servers: at least 0, not necessarily whole. load: erlangs, at least 0. Raises UsageError for others.

    >>> erlang_b(1, 1.0), round(erlang_b(2, 1.0), 12)
    (0.5, 0.2)
    """
    if not (np.isfinite(servers) and servers >= 0 and np.isfinite(load) and load >= 0):
        raise UsageError(
            f"servers and load must be finite and at least 0; got {servers:g} servers and {load:g} erlangs"
        )
    if load == 0:
        return 1.0 if servers == 0 else 0.0
    part = servers % 1
    inverse = _inverse_below_one(part, load) if part else 1.0
    for servers_now in np.arange(part + 1, servers + 0.5):
        inverse = 1 + inverse * servers_now / load
        if np.isinf(inverse):
            return 0.0
    return float(1 / inverse)


def _inverse_below_one(part: float, load: float) -> float:
    """1 / B for 0 < servers < 1."""
    if load >= _LARGE_LOAD:  # exp(load) would overflow, and the integrand is nearly straight
        nodes, weights = np.polynomial.laguerre.laggauss(_NODES)
        return float(weights @ (1 + nodes / load) ** part)
    from scipy.special import gammaincc, gammaln  # type: ignore[import-untyped]

    return float(np.exp(load - part * np.log(load) + gammaln(part + 1)) * gammaincc(part + 1, load))


def erlang_c(servers: float, load: float) -> float:
    """Probability that a request waits, when all wait that must. servers: above 0; load: below servers. Raises UsageError for others.

    >>> erlang_c(1, 0.25), round(erlang_c(2, 1.0), 6)
    (0.25, 0.333333)
    """
    if not servers > load:
        raise UsageError(
            f"{load:g} erlangs are more than {servers:g} servers can carry: the queue would never end"
        )
    blocked = erlang_b(servers, load)
    return float(blocked / (1 - load / servers * (1 - blocked)))


@dataclass(frozen=True, eq=False)
class Replica:
    """One replica as a queue. Raises UsageError for figures no replica has."""

    idle_seconds: Floats
    """(n,) latencies of an idle replica, equally likely: a sample, or quantiles at even steps."""
    saturation: float
    """Requests a second it answers at most."""
    cores: float
    """Cores it has: it serves no more requests at once."""
    fitted: float | None = None
    """Squared coefficient of variation, where it was fitted to a load; else it is that of `idle_seconds`."""

    def __post_init__(self) -> None:
        good = (
            self.idle_seconds.ndim == 1 and len(self.idle_seconds) > 0 and bool((self.idle_seconds > 0).all())
        )
        if not (good and self.saturation > 0 and self.cores > 0):
            raise UsageError("latencies, saturation and cores of a replica must be positive")

    @cached_property
    def servers(self) -> float:
        """Requests served at once at saturation, by Little's law; at least one, and no more than there are cores."""
        return float(np.clip(self.saturation * self.idle_seconds.mean(), 1.0, max(1.0, self.cores)))

    @property
    def busy_seconds(self) -> float:
        """Mean time a request occupies a server."""
        return self.servers / self.saturation

    @cached_property
    def variation(self) -> float:
        """Squared coefficient of variation of the time a request occupies a server: fitted, or that of the idle latencies, what they spend
        elsewhere held constant."""
        if self.fitted is not None:
            return self.fitted
        return float(self.idle_seconds.var() / self.busy_seconds**2)

    def fitted_to(self, rate: float, seconds: float, quantile: float = 0.99) -> Replica:
        """The replica whose quantile at `rate` is `seconds`, as was measured; itself where it is no lower anyway.

        Requests that are in the replica together slow each other down (one interpreter lock, one cache, shared runs), which no idle latency
        shows. The variation of the times takes it up: it scales the wait at every rate. Raises UsageError for a rate it cannot carry.
        """
        if rate >= self.saturation:
            raise UsageError(
                f"{rate:g} requests a second were not carried by a replica whose most is {self.saturation:g}"
            )
        if self.latency(rate, quantile) >= seconds:
            return self
        low, high = self.variation, 2 * self.variation + 1
        while replace(self, fitted=high).latency(rate, quantile) < seconds:
            if high > _WILDEST:
                break
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            below = replace(self, fitted=middle).latency(rate, quantile) < seconds
            low, high = (middle, high) if below else (low, middle)
        return replace(self, fitted=high)

    def late_share(self, rate: float, seconds: float) -> float:
        """Share of the requests with a latency above `seconds` at `rate` requests a second: P(L + W > t). 1 where the queue never ends."""
        load = rate * self.busy_seconds
        if load >= self.servers:
            return 1.0
        left = seconds - self.idle_seconds
        if rate == 0:
            return float((left < 0).mean())
        waits = erlang_c(self.servers, load)
        mean_wait = (1 + self.variation) / 2 * self.busy_seconds / (self.servers - load)
        with np.errstate(under="ignore"):
            tail = waits * np.exp(-np.maximum(left, 0) / mean_wait)
        return float(np.where(left < 0, 1.0, tail).mean())

    def latency(self, rate: float, quantile: float) -> float:
        """Seconds that a share `quantile` of the requests stays below at `rate`; infinite where the queue never ends."""
        if rate >= self.saturation:
            return float("inf")
        low, high = 0.0, float(self.idle_seconds.max())
        while self.late_share(rate, high) > 1 - quantile:
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.late_share(rate, middle) > 1 - quantile else (low, middle)
        return high

    def most_rate(self, seconds: float, quantile: float, most_utilization: float = 1.0) -> float:
        """Highest rate at which the quantile stays below `seconds` and the servers below `most_utilization`; 0 where even an idle replica
        is too slow."""
        allowed = 1 - quantile
        if self.late_share(0.0, seconds) > allowed:
            return 0.0
        low, high = 0.0, self.saturation * most_utilization
        if high < self.saturation and self.late_share(high, seconds) <= allowed:
            return high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.late_share(middle, seconds) <= allowed else (low, middle)
        return low
