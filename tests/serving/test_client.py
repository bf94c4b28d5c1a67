"""What the REST client sends and what it makes of refusals, against a server of a few lines."""

from __future__ import annotations

import httpx
import pytest

from clickmill.errors import ClickmillError
from serving.client import Client
from serving.refusals import DeadlinePassed, NotReady, Overloaded


def client_of(status: int, reason: str, seen: list[httpx.Request], timeout_seconds: float = 2.5) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, json={"error": "words of the server", "reason": reason})

    transport = httpx.MockTransport(answer)
    return Client("http://edge", model_name="m", timeout_seconds=timeout_seconds, transport=transport)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (503, "not_ready", NotReady),
        (503, "overload", Overloaded),
        (504, "deadline", DeadlinePassed),
        (500, "internal", ClickmillError),
    ],
)
def test_each_refusal_is_an_error_of_its_own_with_the_servers_words(status, reason, kind):
    seen: list[httpx.Request] = []
    with (
        client_of(status, reason, seen) as client,
        pytest.raises(kind, match="words of the server") as caught,
    ):
        client.predict([{}])
    assert type(caught.value) is kind
    assert len(seen) == 1, "a refusal is an answer: it is not asked for again"


def test_the_server_is_told_how_long_the_client_waits():
    seen: list[httpx.Request] = []
    for seconds in (2.5, 0.0001):
        with client_of(504, "deadline", seen, seconds) as client, pytest.raises(DeadlinePassed):
            client.predict([{}])
    assert [request.headers["x-request-timeout-ms"] for request in seen] == ["2500", "1"]


def test_an_answer_that_is_not_ours_is_told_by_its_status():
    transport = httpx.MockTransport(lambda request: httpx.Response(502, text="<html>proxy</html>"))
    with (
        Client("http://edge", model_name="m", transport=transport) as client,
        pytest.raises(ClickmillError, match="HTTP 502: <html>proxy"),
    ):
        client.predict([{}])
