"""The router as an HTTP application: every request goes to the bundle its user belongs to, and nobody is left without an answer.

When the chosen server breaks the connection, answers 500 or not in time, the request is asked again of the spare bundle, then of the
others with a share: a crashing server costs its users a little time and no request. It counts as an error of the one that failed. 503
and 504 are answers (load shed, deadline over), and asking elsewhere would double the load: they are passed on, and counted as errors.

While nothing is under way some requests go to the warm spare at the same moment, unseen. Both outcomes are counted as one pair, which
tells a bundle that fails from a machine that does. Nobody waits for the copy, and no more are sent however much traffic there is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict

from clickmill.release import Split
from serving.router.counts import Counts, Pairs
from serving.router.split import choose

HEADER_USER = "x-clickmill-user"
"""Names the user, who then stays with one bundle; without it a request is a user of its own."""
HEADER_ANSWERED_BY = "x-clickmill-routed-to"
_OWN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "content-encoding"}
)
_AGAIN = frozenset({500, 502})
_REQUESTS_PER_CONNECTION = 100
"""Where several servers are behind one URL. A connection costs some 0.2 ms: a fiftieth of that a request."""


T = TypeVar("T")


class NoAnswer(Enum):
    """Why there is none."""

    BROKEN = "broken"  # no connection, or one that broke: its process is gone
    LATE = "late"  # within the timeout of a try


Chooser = Callable[[Split, str | None, bytes], str]
"""The bundle that answers: of the split, the user that the header names (None without one), and the body."""


def by_share(split: Split, user: str | None, body: bytes) -> str:
    """As the shares say; whoever is not named is a user of their own."""
    return choose(split.percent, user or uuid.uuid4().hex)


@dataclass(frozen=True)
class Ways:
    """A split, and where its bundles are."""

    split: Split
    urls: Mapping[str, str]
    """Digest to the base URL of its server; all of the split's, shadow and warm ones included."""
    several: bool = False
    """Behind each URL are several servers, one chosen at each connection: a broken one is worth a second try at the same URL, and
    connections are given up now and then, so that servers which came later get their part."""

    def after(self, chosen: str) -> list[str]:
        """Whom to ask when the chosen bundle has no answer: the spare one, then those with a share, the largest first."""
        shares = sorted(self.split.percent, key=lambda bundle: -self.split.percent[bundle])
        spare = [] if self.split.spare is None else [self.split.spare]
        return [bundle for bundle in dict.fromkeys([*spare, *shares]) if bundle != chosen]


@dataclass
class Traffic:
    """Counts of one bundle in both roles."""

    live: Counts = field(default_factory=Counts)
    shadow: Counts = field(default_factory=Counts)
    dropped: int = 0
    """Copies not sent to the shadow, since as many as allowed were under way."""
    paired: Pairs = field(default_factory=Pairs)
    """Its live requests that the spare got as well."""
    heard: float = float("-inf")
    """`perf_counter` of the last answer of its server, whatever it was."""


class Door:
    """Splits, shadows and counts. `app` is served by aiohttp; `turn` changes the split between two requests."""

    def __init__(
        self,
        ways: Ways,
        *,
        chooser: Chooser = by_share,
        timeout_seconds: float = 2.0,
        shadows: int = 64,
        pair_seconds: float = 0.1,
    ) -> None:
        """chooser: who answers. timeout_seconds: for each try. shadows: copies under way at most; beyond it they are dropped, never queued.
        pair_seconds: between two copies to the spare, at least; ten a second show within two seconds that a bundle fails everything."""
        self.ways = ways
        self._chooser = chooser
        self.traffic: dict[str, Traffic] = {}
        self._timeout = ClientTimeout(total=timeout_seconds)
        self._shadows, self._pair_seconds, self._next_pair = shadows, pair_seconds, float("-inf")
        self._copies: set[asyncio.Task[Any]] = set()
        self._session: ClientSession | None = None
        self._sent = 0
        self.app = web.Application(client_max_size=64 * 2**20)
        self.app.router.add_route("*", "/{path:.*}", self._handle)
        self.app.cleanup_ctx.append(self._connections)

    def turn(self, ways: Ways) -> None:
        """From the next request on. What is under way ends where it began."""
        self.ways = ways

    async def _connections(self, app: web.Application):  # type: ignore[no-untyped-def]
        async with ClientSession(connector=TCPConnector(limit=0), auto_decompress=False) as session:
            self._session = session
            yield
            for copy in self._copies:
                copy.cancel()
            await asyncio.gather(*self._copies, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.Response:
        ways = self.ways
        body = await request.read()
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _OWN)
        if ways.split.shadow is not None and request.method == "POST":
            self._copy(ways, request, headers, body)
        chosen = self._chooser(ways.split, request.headers.get(HEADER_USER) or None, body)
        copy = self._beside(ways, request, headers, body)
        start = time.perf_counter()
        answer = await self._ask(ways, chosen, request, headers, body)
        if copy is not None:
            self._pair(copy, chosen, failed=self._own_failure(chosen, answer, start))
        if answer is NoAnswer.BROKEN and ways.several:
            answer = await self._ask(ways, chosen, request, headers, body)
        for other in ways.after(chosen):
            if isinstance(answer, web.Response) and answer.status not in _AGAIN:
                break
            found = await self._ask(ways, other, request, headers, body)
            if isinstance(found, web.Response):
                chosen, answer = other, found
        if isinstance(answer, NoAnswer):
            words = {"error": f"no server answered, neither that of bundle {chosen[:12]} nor another"}
            return web.json_response(words, status=502)
        answer.headers[HEADER_ANSWERED_BY] = chosen
        return answer

    async def _ask(
        self, ways: Ways, bundle: str, request: web.Request, headers: CIMultiDict[str], body: bytes
    ) -> web.Response | NoAnswer:
        """The bundle's answer, counted."""
        start = time.perf_counter()
        answer = await self._exchange(ways, bundle, request, headers, body)
        self._note(bundle, answer)
        if request.method == "POST":
            self._of(bundle).live.add(time.perf_counter() - start, failed=_failed(answer))
        return answer

    def _beside(
        self, ways: Ways, request: web.Request, headers: CIMultiDict[str], body: bytes
    ) -> asyncio.Task[bool] | None:
        """A copy under way to the warm spare, if it is time for one: whether that one fails."""
        spare, now = ways.split.spare, time.perf_counter()
        idle = spare is not None and ways.split.settled and spare not in ways.split.percent
        if (
            not idle
            or request.method != "POST"
            or now < self._next_pair
            or len(self._copies) >= self._shadows
        ):
            return None
        assert spare is not None
        self._next_pair = now + self._pair_seconds

        async def send() -> bool:
            answer = await self._exchange(ways, spare, request, headers, body)
            self._note(spare, answer)
            self._of(spare).shadow.add(time.perf_counter() - now, failed=_failed(answer))
            return self._own_failure(spare, answer, now)

        return self._kept(asyncio.create_task(send()))

    def _pair(self, copy: asyncio.Task[bool], serving: str, *, failed: bool) -> None:
        """Count the pair once its copy is over too."""

        def over(task: asyncio.Task[bool]) -> None:
            if not task.cancelled() and task.exception() is None:
                self._of(serving).paired.add(serving_failed=failed, spare_failed=task.result())

        copy.add_done_callback(over)

    def _own_failure(self, bundle: str, answer: web.Response | NoAnswer, start: float) -> bool:
        """Whether a try that began at `start` failed by the bundle's own doing. Shed and late answers are the load's, as long as the
        server says anything at all: of two, the one with the traffic is the one that is short of a busy machine."""
        if isinstance(answer, web.Response):
            return answer.status in _AGAIN
        return answer is NoAnswer.BROKEN or self._of(bundle).heard < start

    def _note(self, bundle: str, answer: web.Response | NoAnswer) -> None:
        if isinstance(answer, web.Response):
            self._of(bundle).heard = time.perf_counter()

    def _copy(self, ways: Ways, request: web.Request, headers: CIMultiDict[str], body: bytes) -> None:
        bundle = ways.split.shadow
        assert bundle is not None
        if len(self._copies) >= self._shadows:
            self._of(bundle).dropped += 1
            return

        async def send() -> None:
            start = time.perf_counter()
            answer = await self._exchange(ways, bundle, request, headers, body)
            self._of(bundle).shadow.add(time.perf_counter() - start, failed=_failed(answer))

        self._kept(asyncio.create_task(send()))

    def _kept(self, copy: asyncio.Task[T]) -> asyncio.Task[T]:
        """Held until it is over: nobody else holds it."""
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)
        return copy

    async def _exchange(
        self, ways: Ways, bundle: str, request: web.Request, headers: CIMultiDict[str], body: bytes
    ) -> web.Response | NoAnswer:
        assert self._session is not None
        self._sent += 1
        if ways.several and self._sent % _REQUESTS_PER_CONNECTION == 0:
            headers = CIMultiDict({**headers, "connection": "close"})
        url = ways.urls[bundle] + request.raw_path
        try:
            async with self._session.request(
                request.method, url, data=body, headers=headers, timeout=self._timeout
            ) as answer:
                kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _OWN)
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except TimeoutError:
            return NoAnswer.LATE
        except (ClientError, OSError):
            return NoAnswer.BROKEN

    def _of(self, bundle: str) -> Traffic:
        return self.traffic.setdefault(bundle, Traffic())


def _failed(answer: web.Response | NoAnswer) -> bool:
    return isinstance(answer, NoAnswer) or answer.status >= 500


__all__ = [
    "HEADER_ANSWERED_BY",
    "HEADER_USER",
    "Chooser",
    "Door",
    "NoAnswer",
    "Traffic",
    "Ways",
    "by_share",
]
