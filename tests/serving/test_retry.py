"""The decisions of a client: laws over all calls that hypothesis thinks of, and numbers made by hand."""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.errors import ClickmillError
from serving.client.retry import (
    Budget,
    Failed,
    Latencies,
    Pause,
    Reply,
    RetryPolicy,
    Send,
    Unreachable,
    call_steps,
    pause_before,
)
from serving.refusals import DeadlinePassed

BUSY = ClickmillError("busy")
shares, reserves = st.floats(0, 1), st.floats(0, 20)


@given(share=shares, reserve=reserves, calls=st.lists(st.integers(0, 4), max_size=60))
def test_extra_requests_never_exceed_the_reserve_and_the_share_of_the_calls(share, reserve, calls):
    """Each number is how many extra requests a call would like."""
    budget = Budget(RetryPolicy(budget_share=share, budget_reserve=reserve))
    made = 0
    for wanted in calls:
        budget.deposit()
        made += sum(budget.withdraw() for _ in range(wanted))
    assert made <= reserve + share * len(calls) + 1e-6


def test_ten_calls_pay_for_one_more_request():
    budget = Budget(RetryPolicy(budget_share=0.1, budget_reserve=1))
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()


@given(
    tries=st.integers(1, 9),
    after=st.none() | st.floats(0, 5),
    left=st.floats(0, 10),
    chance=st.floats(0, 1),
    retries=st.integers(0, 8),
)
def test_a_pause_honours_retry_after_grows_at_most_twofold_and_ends_before_the_deadline(
    tries, after, left, chance, retries
):
    policy = RetryPolicy(retries=retries, pause_seconds=0.1, most_pause_seconds=1.0)
    wait = pause_before(policy, tries, Failed(BUSY, True, after), left, chance)
    if wait is None:
        most = (after or 0) + min(0.1 * 2 ** (tries - 1), 1.0)
        assert tries > retries or most >= left
    else:
        assert tries <= retries
        assert (after or 0) <= wait <= (after or 0) + min(0.1 * 2 ** (tries - 1), 1.0)
        assert wait < left
    assert pause_before(policy, tries, Failed(BUSY, False, after), left, chance) is None


outcomes = st.lists(st.sampled_from(["answer", "busy", "wrong"]), min_size=10, max_size=10)


@given(
    outcomes=outcomes,
    takes=st.lists(st.floats(0, 2), min_size=40, max_size=40),
    timeout=st.floats(0.01, 5),
    retries=st.integers(0, 5),
    reserve=st.integers(0, 5),
)
def test_a_call_ends_within_its_deadline_and_its_tries(outcomes, takes, timeout, retries, reserve):
    """Requests take any time up to what they are given; the clock stands where the last one ended."""
    policy = RetryPolicy(retries=retries, budget_reserve=reserve, budget_share=0)
    steps = call_steps(policy, Budget(policy), Latencies(None, 0.001), timeout, repeat(0.5))
    now, sent, answer = 0.0, 0, None
    try:
        step = next(steps)
        for take in takes:
            if isinstance(step, Send):
                assert 0 < step.seconds <= timeout - now + 1e-9
                now += min(take, step.seconds)
                kind = outcomes[sent]
                sent += 1
                answer = Reply(7) if kind == "answer" else Failed(BUSY, again=kind == "busy")
                step = steps.send((answer, now))
            else:
                assert isinstance(step, Pause)
                now += step.seconds
                assert now < timeout
                step = steps.send((None, now))
        raise AssertionError("a call without end")
    except StopIteration as done:
        end = done.value
    except ClickmillError as error:
        end = error
    assert end == (7 if outcomes[sent - 1] == "answer" else BUSY)
    assert now <= timeout + 1e-9
    assert sent <= 1 + min(retries, reserve)
    assert "answer" not in outcomes[: sent - 1]
    assert "wrong" not in outcomes[: sent - 1], "a call that is wrong is not made again"


def test_a_sleep_that_lasts_too_long_ends_the_call_and_a_call_without_time_never_begins():
    policy = RetryPolicy()
    steps = call_steps(policy, Budget(policy), Latencies(None, 0.001), 1.0, repeat(0.5))
    assert next(steps) == Send(1.0, None)
    assert steps.send((Failed(BUSY, again=True), 0.1)) == Pause(0.025)
    with pytest.raises(ClickmillError, match="busy"):
        steps.send((None, 1.2))
    for timeout in (0.0, -1.0):
        with pytest.raises(DeadlinePassed, match="nothing was sent"):
            next(call_steps(policy, Budget(policy), Latencies(None, 0.001), timeout, repeat(0.5)))


def test_an_endpoint_that_cannot_be_reached_is_told_with_the_tries():
    policy = RetryPolicy(retries=1)
    steps = call_steps(policy, Budget(policy), Latencies(None, 0.001), 10, repeat(0.5))
    lost = Failed(Unreachable("http://x: no answer"), again=True)
    assert next(steps) == Send(10, None)
    assert steps.send((lost, 1.0)) == Pause(0.025)
    assert steps.send((None, 1.025)) == Send(10 - 1.025, None)
    with pytest.raises(Unreachable, match="after 2 tries: http://x: no answer"):
        steps.send((lost, 2.0))


def test_the_delay_of_a_hedge_is_the_quantile_of_the_latest_calls():
    latencies = Latencies(0.9, 0.001)
    for number in range(31):
        latencies.add(number / 1000)
    assert latencies.hedge_after is None, "31 calls say nothing about the slowest tenth"
    latencies.add(0.031)
    assert latencies.hedge_after == pytest.approx(0.027)  # the value 27 of 0..31: 0.9 x 31 = 27.9
    for _ in range(1000):
        latencies.add(1e-6)
    assert latencies.hedge_after == 0.001, "never sooner than the least"
    never = Latencies(None, 0.001)
    for _ in range(100):
        never.add(1.0)
    assert never.hedge_after is None
