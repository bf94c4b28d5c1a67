"""Hedging on threads that are not ours, as gRPC's: who wins, who is cancelled, what is paid for."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from clickmill.errors import ClickmillError
from serving.client.conduct import hedged
from serving.client.retry import Budget, Failed, Reply, RetryPolicy, Send

BUSY = Failed(ClickmillError("busy"), again=True)


class Server:
    """Each request gets the next plan: (seconds until it is answered, the outcome). They count from the last request that is planned:
    which comes first is then the plan's, on a machine that stalls too."""

    def __init__(self, *plans: tuple[float, object]) -> None:
        self.plans, self.given, self.calls = list(plans), [], []
        self._timers: list[threading.Timer] = []

    def start(self, seconds: float) -> Future:
        delay, outcome = self.plans[len(self.calls)]
        call: Future = Future()
        self.given.append(seconds)
        self.calls.append(call)

        def settle() -> None:
            if call.set_running_or_notify_cancel():
                call.set_result(outcome)

        self._timers.append(threading.Timer(delay, settle))
        if len(self.calls) == len(self.plans):
            for timer in self._timers:
                timer.start()
        return call

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()


def ask(server: Server, reserve: float = 1.0) -> object:
    try:
        budget = Budget(RetryPolicy(budget_reserve=reserve))
        return hedged(server.start, lambda call: call.result(), Send(2.0, 0.05), budget)
    finally:
        server.close()


def test_a_quick_answer_is_not_hedged():
    server = Server((0.0, Reply("first")))
    assert ask(server) == Reply("first")
    assert server.given == [2.0]


def test_the_hedge_has_what_is_left_wins_and_the_first_is_cancelled():
    server = Server((60.0, Reply("first")), (0.0, Reply("second")))
    assert ask(server) == Reply("second")
    assert server.given == [2.0, pytest.approx(1.95)]
    assert server.calls[0].cancelled()


@pytest.mark.parametrize("plans", [((1.5, Reply("good")), (0.0, BUSY)), ((0.0, BUSY), (1.5, Reply("good")))])
def test_a_failure_does_not_win_over_an_answer_under_way(plans):
    assert ask(Server(*plans)) == Reply("good")


def test_a_failure_before_the_delay_is_told_at_once():
    server = Server((0.0, BUSY))
    assert ask(server) == BUSY
    assert len(server.calls) == 1


def test_without_a_token_nothing_is_sent_twice():
    server = Server((0.2, Reply("first")))
    assert ask(server, reserve=0.0) == Reply("first")
    assert len(server.calls) == 1
