"""The limit of requests inside: its laws, and what it does to a queue that plain arithmetic can follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.concurrency import ShedPolicy, Window, adapted

POLICY = ShedPolicy(least=4, first=64, most=200, target_wait_seconds=0.02)
limits = st.floats(POLICY.least, POLICY.most)
windows = st.builds(
    Window,
    started=st.integers(0, 10_000),
    waited=st.floats(0, 1e4),
    peak=st.integers(0, 300),
    shed=st.integers(0, 1000),
)


def too_long(seen: Window) -> bool:
    return seen.started > 0 and seen.waited / seen.started > POLICY.target_wait_seconds


@given(limits, windows)
def test_the_limit_stays_between_least_and_most(limit, seen):
    assert POLICY.least <= adapted(limit, seen, POLICY) <= POLICY.most


@given(limits, windows)
def test_it_falls_only_after_waits_that_were_too_long_and_rises_by_one_at_most(limit, seen):
    found = adapted(limit, seen, POLICY)
    assert found <= limit + 1
    if found > limit:
        assert not too_long(seen)
        assert seen.shed or seen.peak >= int(limit), "a limit nobody felt is no reason to allow more"
    if found < limit:
        assert too_long(seen)


@given(limits, windows)
def test_waits_that_are_too_long_lower_it_unless_it_is_the_least(limit, seen):
    if too_long(seen):
        assert adapted(limit, seen, POLICY) <= max(POLICY.least, POLICY.decrease * limit)


def test_it_falls_from_where_the_traffic_was_and_not_from_where_the_limit_stood():
    assert adapted(100, Window(started=10, waited=1.0, peak=20), POLICY) == 16


def test_a_window_without_traffic_changes_nothing():
    assert adapted(50, Window(), POLICY) == 50


def settle(threads: int, seconds: float, demand: int, windows: int = 400) -> list[tuple[float, float]]:
    """(limit, wait) over time of a queue with `demand` requests always there to come in: n inside, `threads` of them being
    scored, so that the next waits (n - threads) * seconds / threads."""
    limit, seen = float(POLICY.first), []
    for _ in range(windows):
        inside = min(demand, int(limit))
        wait = max(0, inside - threads) * seconds / threads
        limit = adapted(limit, Window(100, 100 * wait, inside, demand - inside), POLICY)
        seen.append((limit, wait))
    return seen


@given(st.integers(1, 8), st.sampled_from([0.001, 0.002, 0.005]), st.integers(200, 1000))
def test_under_overload_the_queue_settles_at_the_length_of_the_target(threads, seconds, demand):
    tail = settle(threads, seconds, demand)[-100:]
    ideal = min(max(threads * (1 + POLICY.target_wait_seconds / seconds), POLICY.least), POLICY.most)
    assert all(POLICY.decrease * ideal - 2 <= limit <= ideal + 2 for limit, _ in tail)
    if ideal > POLICY.least:
        assert max(wait for _, wait in tail) <= POLICY.target_wait_seconds + 2 * seconds / threads


@given(st.integers(1, 8), st.integers(1, 4))
def test_clients_no_more_than_the_least_are_never_turned_away_however_slow_the_graph(threads, demand):
    assert all(limit >= demand for limit, _ in settle(threads, 1.0, demand))


def test_after_an_overload_the_limit_comes_back_by_one_a_window():
    low = settle(2, 0.005, 500)[-1][0]
    limit, windows = low, 0
    while limit < 100:
        limit = adapted(limit, Window(100, 0.0, int(limit), shed=5), POLICY)
        windows += 1
    assert windows == pytest.approx(100 - low, abs=1)


def test_a_policy_that_contradicts_itself_is_refused():
    with pytest.raises(ValidationError, match="least 100 <= first 64"):
        ShedPolicy(least=100)
