"""Queues beside Erlang's tables, closed forms of small systems, and a simulation of a few lines."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.capacity import Replica, erlang_b, erlang_c
from clickmill.errors import UsageError


@pytest.mark.parametrize(
    ("servers", "load", "blocked"),
    # published tables of Erlang B: the load at which so many servers lose that share
    [
        (1, 0.0101, 0.01), (5, 1.361, 0.01), (10, 4.461, 0.01), (20, 12.03, 0.01), (100, 84.06, 0.01),
        (5, 0.7621, 0.001), (10, 3.092, 0.001), (50, 32.51, 0.001), (10, 5.084, 0.02), (30, 21.93, 0.02),
    ],
)  # fmt: skip
def test_erlang_b_is_that_of_the_tables(servers, load, blocked):
    assert erlang_b(servers, load) == pytest.approx(blocked, rel=2e-3)


def waits(c: int, a: float) -> float:
    """Erlang C by its sum, for whole c."""
    top = a**c / math.factorial(c) * c / (c - a)
    return top / (sum(a**k / math.factorial(k) for k in range(c)) + top)


@given(servers=st.integers(1, 60), rho=st.floats(0.01, 0.999))
def test_erlang_c_is_its_sum(servers, rho):
    assert erlang_c(servers, rho * servers) == pytest.approx(waits(servers, rho * servers), rel=1e-9)


@given(servers=st.floats(0.01, 40), load=st.floats(0.01, 600))
def test_erlang_b_of_real_servers_is_jagermans_integral(servers, load):
    """1 / B = int_0^inf exp(-u) (1 + u / a)^c du, by plain trapezia."""
    u = np.linspace(0, 150, 300_001)
    # beyond u = 150 the integrand is below exp(-150) (1 + 150 / a)^c, compared in logarithms
    if -150 + servers * np.log1p(150 / load) > -20:
        return
    integral = np.trapezoid(np.exp(-u + servers * np.log1p(u / load)), u)
    assert erlang_b(servers, load) == pytest.approx(1 / integral, rel=1e-5)


@given(servers=st.floats(1, 30), more=st.floats(0.01, 5), rho=st.floats(0.01, 0.98))
def test_more_servers_wait_less_and_more_load_waits_more(servers, more, rho):
    load = rho * servers
    assert erlang_c(servers + more, load) <= erlang_c(servers, load) * (1 + 1e-9)
    assert erlang_c(servers, load * 0.9) <= erlang_c(servers, load) * (1 + 1e-9)


def test_loads_that_cannot_be_carried_are_refused():
    with pytest.raises(UsageError, match="the queue would never end"):
        erlang_c(2, 2.0)
    with pytest.raises(UsageError, match="at least 0"):
        erlang_b(-1, 1.0)
    with pytest.raises(UsageError, match="must be positive"):
        Replica(np.array([0.0]), 1.0, 1.0)


def test_one_exponential_server_has_the_latency_of_m_m_1():
    """Sojourn in M/M/1 is exponential with rate mu - lambda; the sample of service times is its quantiles."""
    levels = (np.arange(20_000) + 0.5) / 20_000
    service = -np.log1p(-levels) * 0.002
    replica = Replica(service, 500.0, 1.0)
    assert replica.servers == 1.0
    assert replica.variation == pytest.approx(1.0, rel=2e-3)
    for rate in (100.0, 250.0, 400.0):
        expected = math.log(100) / (500 - rate)
        assert replica.latency(rate, 0.99) == pytest.approx(expected, rel=2e-3)


def simulated(service: np.ndarray, rate: float, servers: int, seed: int) -> np.ndarray:
    """Latencies of Poisson arrivals served in order by equal servers."""
    rng = np.random.default_rng(seed)
    come = np.cumsum(rng.exponential(1 / rate, len(service)))
    free = [0.0] * servers
    found = np.empty(len(service))
    for i, (now, takes) in enumerate(zip(come.tolist(), service.tolist(), strict=True)):
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + takes)
        found[i] = begins + takes - now
    return found


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_a_replica_of_lognormal_times_is_near_its_simulation(servers, rho):
    rng = np.random.default_rng(5)
    service = 0.004 * np.exp(0.4 * rng.standard_normal(200_000))
    saturation = servers / service.mean()
    levels = (np.arange(100) + 0.5) / 100
    replica = Replica(np.quantile(service, levels), saturation, servers)
    assert replica.servers == pytest.approx(servers, rel=0.01)
    found = np.quantile(simulated(service, rho * saturation, servers, seed=9), 0.99)
    # the exponential tail is an approximation: within 15 % here
    assert replica.latency(rho * saturation, 0.99) == pytest.approx(found, rel=0.15)


times = st.lists(st.floats(1e-4, 1e-2), min_size=1, max_size=30).map(lambda v: np.sort(np.array(v)))


@given(idle=times, cores=st.floats(1, 8), share=st.floats(0.05, 0.9), pace=st.floats(0.2, 1.0))
def test_latency_grows_with_the_rate_and_the_quantile(idle, cores, share, pace):
    replica = Replica(idle, pace * cores / idle.mean(), cores)
    rate = share * replica.saturation
    assert replica.latency(rate, 0.99) >= replica.latency(rate * 0.8, 0.99) * (1 - 1e-9)
    assert replica.latency(rate, 0.99) >= replica.latency(rate, 0.5) * (1 - 1e-9)
    assert replica.latency(rate, 0.99) >= np.quantile(idle, 0.5) * (1 - 1e-9)


@given(idle=times, cores=st.floats(1, 8), slack=st.floats(1.1, 10))
def test_the_highest_rate_keeps_the_promise_and_a_little_more_breaks_it(idle, cores, slack):
    replica = Replica(idle, cores / idle.mean(), cores)
    target = slack * idle.max()
    best = replica.most_rate(target, 0.99)
    assert 0 < best < replica.saturation
    assert replica.late_share(best, target) <= 0.01 + 1e-9
    assert replica.late_share(min(best * 1.01, replica.saturation), target) >= 0.01 - 1e-6


def test_an_idle_replica_that_is_too_slow_takes_no_load():
    assert Replica(np.array([0.02]), 40.0, 1.0).most_rate(0.01, 0.99) == 0.0


@given(idle=times, slower=st.floats(1.0, 20.0), share=st.floats(0.3, 0.9))
def test_a_replica_fitted_to_a_load_has_its_p99_there_and_is_slower_elsewhere(idle, slower, share):
    replica = Replica(idle, 1 / idle.mean(), 1.0)
    rate = share * replica.saturation
    seen = slower * replica.latency(rate, 0.99)
    fitted = replica.fitted_to(rate, seen)
    assert fitted.latency(rate, 0.99) == pytest.approx(seen, rel=1e-3)
    assert fitted.latency(0.5 * rate, 0.99) >= replica.latency(0.5 * rate, 0.99) * (1 - 1e-9)
    assert replica.fitted_to(rate, 0.5 * seen / slower) is replica


def test_no_replica_is_fitted_to_what_it_cannot_carry():
    with pytest.raises(UsageError, match="were not carried"):
        Replica(np.array([0.01]), 100.0, 1.0).fitted_to(100.0, 1.0)
