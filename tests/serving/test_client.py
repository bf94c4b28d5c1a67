"""What the clients send and what they make of answers, refusals and silence, against servers of a few lines; the same for both REST clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from clickmill.errors import ClickmillError, RequestError, UsageError
from serving.client import AsyncClient, Client, RetryPolicy, Unreachable
from serving.refusals import DeadlinePassed, NotFinite, NotReady, Overloaded

ONCE = RetryPolicy(retries=0)
Answer = Callable[[httpx.Request], Any]


def good() -> httpx.Response:
    return httpx.Response(200, json={"predictions": [{"pctr": 0.25, "logit": -1.0}]})


class Both:
    """A call by the client that waits or by the one that is awaited, to a server that is a function."""

    def __init__(self, awaited: bool) -> None:
        self.awaited = awaited

    def __call__(self, answer: Answer, call: Callable[[Any], Any], **options: Any) -> Any:
        options = {"model_name": "m", **options}
        if not self.awaited:
            with Client("http://edge", transport=httpx.MockTransport(answer), **options) as client:
                return call(client)

        async def once() -> Any:
            async with AsyncClient("http://edge", transport=httpx.MockTransport(answer), **options) as client:
                return await call(client)

        return asyncio.run(once())


@pytest.fixture(params=[False, True], ids=["called", "awaited"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def refusing(
    status: int, seen: list[httpx.Request], headers: dict[str, str] | None = None, **body: Any
) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, json={"error": "words of the server", **body}, headers=headers)

    return answer


@pytest.mark.parametrize(
    ("status", "reason", "kind", "requests"),
    [
        (503, "not_ready", NotReady, 3),
        (503, "overload", Overloaded, 3),
        (504, "deadline", DeadlinePassed, 1),
        (500, "not_finite", NotFinite, 1),
        (500, "internal", ClickmillError, 1),
        (400, "invalid", RequestError, 1),
    ],
)
def test_each_refusal_is_an_error_of_its_own_and_only_what_may_pass_is_tried_again(
    both, status, reason, kind, requests
):
    seen: list[httpx.Request] = []
    with pytest.raises(kind, match="words of the server") as caught:
        both(
            refusing(status, seen, reason=reason),
            lambda client: client.predict([{}]),
            policy=RetryPolicy(retries=2, pause_seconds=0.001),
        )
    assert type(caught.value) is kind
    assert len(seen) == requests
    assert len({request.headers["x-request-id"] for request in seen}) == 1, "one call, one name in the log"


def test_a_refused_request_names_its_field_row_and_path(both):
    place = {"reason": "invalid", "path": "instances[3].user_id", "field": "user_id", "row": 3}
    with pytest.raises(RequestError) as caught:
        both(refusing(400, [], **place), lambda client: client.predict([{}]))
    error = caught.value
    assert (error.path, error.field, error.row) == ("instances[3].user_id", "user_id", 3)


def test_retry_after_is_waited_for_and_never_beyond_the_deadline(both):
    seen: list[httpx.Request] = []
    later = refusing(503, seen, {"retry-after": "30"}, reason="overload")
    with pytest.raises(Overloaded):
        both(later, lambda client: client.predict([{}], timeout_seconds=20))
    assert len(seen) == 1, "thirty seconds are more than is left"
    seen.clear()
    hold = refusing(503, seen, {"retry-after": "1"}, reason="overload")
    answers = iter([503, 200])

    def answer(request: httpx.Request) -> httpx.Response:
        found = hold(request)
        return found if next(answers) == 503 else good()

    began = time.monotonic()
    assert both(answer, lambda client: client.predict([{}], timeout_seconds=60)).pctr.tolist() == [0.25]
    assert time.monotonic() - began >= 1
    left = [int(request.headers["x-request-timeout-ms"]) for request in seen]
    assert 50_000 < left[0] <= 60_000
    assert 40_000 < left[1] <= left[0] - 999, "the second try has what the first has left"


def test_the_server_is_told_how_long_the_client_waits(both):
    seen: list[httpx.Request] = []
    for seconds in (2.5, 0.0001):
        with pytest.raises((DeadlinePassed, Unreachable)):
            both(
                refusing(504, seen, reason="deadline"),
                lambda client: client.predict([{}]),
                timeout_seconds=seconds,
            )
    told = [int(request.headers["x-request-timeout-ms"]) for request in seen]
    assert 2490 <= told[0] <= 2500
    assert told[1:] in ([1], [])  # a tenth of a millisecond may be over before anything is sent


def test_an_endpoint_that_fails_everything_gets_hardly_more_requests_than_calls(both):
    seen: list[httpx.Request] = []
    policy = RetryPolicy(retries=2, pause_seconds=1e-4, budget_reserve=3, budget_share=0.1)

    def calls(client: Any) -> Any:
        async def awaited() -> None:
            for _ in range(100):
                with pytest.raises(NotReady):
                    await client.predict([{}])

        if both.awaited:
            return awaited()
        for _ in range(100):
            with pytest.raises(NotReady):
                client.predict([{}])
        return None

    both(refusing(503, seen, reason="not_ready"), calls, policy=policy)
    # 3 in reserve and a tenth of a token for each call, of which those that came while the bucket was full are lost
    assert 100 + 3 + 9 <= len(seen) <= 100 + 3 + 10


def test_an_answer_that_is_not_ours_is_told_by_its_status(both):
    with pytest.raises(ClickmillError, match="HTTP 502: <html>proxy"):
        both(
            lambda request: httpx.Response(502, text="<html>proxy</html>"),
            lambda client: client.predict([{}]),
            policy=ONCE,
        )


def test_a_ranking_sends_what_is_given_and_gives_the_ads_in_order(both):
    seen: list[httpx.Request] = []
    ad = {
        "candidate": 1,
        "id": "b",
        "pctr": 0.1,
        "logit": -2.2,
        "ecpm": 90.0,
        "price": 0.4,
        "source": "recent",
    }

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(
            200,
            json={"request_id": "r", "fallback": "overload", "ranked": [ad | {"later_key": 1}]},
            headers={"x-clickmill-version": "3"},
        )

    found = both(
        answer,
        lambda client: client.rank(
            [{"id": "a", "bid": 1}, {"id": "b", "bid": np.float32(0.5)}],
            user={"user_id": "u"},
            slots=1,
            explain=True,
            on_failure="fallback",
            request_id="r",
        ),
    )
    assert (seen[0].url.path, seen[0].url.query) == ("/v1/models/m:rank", b"explain=1")
    assert orjson.loads(seen[0].content) == {
        "request_id": "r",
        "user": {"user_id": "u"},
        "slots": 1,
        "candidates": [{"id": "a", "bid": 1}, {"id": "b", "bid": 0.5}],
    }
    assert seen[0].headers["x-clickmill-on-failure"] == "fallback"
    (best,) = found.ads
    assert (best.source, found.fallback) == ("recent", "overload")
    assert (best.candidate, best.id, best.price, found.request_id, found.version) == (1, "b", 0.4, "r", "3")
    assert found.body["ranked"][0]["later_key"] == 1


class Replicas:
    """A server that stalls on some requests; counts those that were given up before their answer."""

    def __init__(self, stalls: Callable[[int], bool]) -> None:
        self.stalls, self.count, self.cancelled = stalls, 0, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        try:
            await asyncio.sleep(60.0 if self.stalls(self.count) else 0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return httpx.Response(200, json={"predictions": [{"pctr": self.count, "logit": 0}]})


def hedging(replicas: Replicas, calls: Callable[[AsyncClient], Awaitable[Any]], **policy: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(
            "http://edge",
            model_name="m",
            transport=httpx.MockTransport(replicas),
            policy=RetryPolicy(hedge_quantile=0.9, hedge_least_seconds=0.03, **policy),
        ) as client:
            for _ in range(32):
                await client.predict([{}])
            return await calls(client)

    return asyncio.run(run())


def test_a_slow_request_is_sent_again_the_first_answer_wins_and_the_loser_is_cancelled():
    replicas = Replicas(stalls=lambda count: count == 33)
    found = hedging(replicas, lambda client: client.predict([{}]))
    assert found.pctr.tolist() == [34]
    assert (replicas.count, replicas.cancelled) == (34, 1)


def test_hedges_come_out_of_the_budget_too():
    replicas = Replicas(stalls=lambda count: count > 32)

    async def calls(client: AsyncClient) -> int:
        for _ in range(5):
            with pytest.raises(Unreachable, match="no answer within"):
                await client.predict([{}], timeout_seconds=0.5)
        return replicas.count

    # 2 in reserve: two of the five are hedged, and half a token is left
    assert hedging(replicas, calls, budget_reserve=2, budget_share=0.1) == 32 + 5 + 2


def test_a_hedge_that_fails_does_not_lose_the_answer_under_way():
    async def answer(request: httpx.Request) -> httpx.Response:
        answer.count += 1
        if answer.count == 34:
            raise httpx.ReadError("reset")
        await asyncio.sleep(1.5 if answer.count == 33 else 0.002)
        return good()

    answer.count = 0
    assert hedging(answer, lambda client: client.predict([{}])).pctr.tolist() == [0.25]
    assert answer.count == 34


def test_a_call_that_is_cancelled_leaves_nothing_under_way():
    replicas = Replicas(stalls=lambda count: count > 32)

    async def calls(client: AsyncClient) -> None:
        call = asyncio.create_task(client.predict([{}]))
        while replicas.count < 34:  # until the hedge is out
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    hedging(replicas, calls)
    assert (replicas.count, replicas.cancelled) == (34, 2)


def test_the_client_that_waits_says_that_it_does_not_hedge():
    with pytest.raises(UsageError, match="take AsyncClient or GrpcClient"):
        Client("http://edge", policy=RetryPolicy(hedge_quantile=0.95))
