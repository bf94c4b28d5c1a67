"""The router as an HTTP application: every request goes to the bundle its user belongs to, and nobody is left without an answer.

When the chosen server breaks the connection, answers 500 or not in time, the request is asked again of the spare bundle, then of the
others with a share: a crashing server costs its users a little time and no request. It counts as an error of the one that failed. 503
and 504 are answers (load shed, deadline over), and asking elsewhere would double the load: they are passed on, and counted as errors.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict

from clickmill.release import Split
from serving.router.counts import Counts
from serving.router.split import choose

HEADER_USER = "x-clickmill-user"
"""Names the user, who then stays with one bundle; without it a request is a user of its own."""
HEADER_ANSWERED_BY = "x-clickmill-routed-to"
_OWN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "content-encoding"}
)
_AGAIN = frozenset({500, 502})


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


class Door:
    """Splits, shadows and counts. `app` is served by aiohttp; `turn` changes the split between two requests."""

    def __init__(
        self,
        ways: Ways,
        *,
        chooser: Chooser = by_share,
        timeout_seconds: float = 2.0,
        shadows: int = 64,
    ) -> None:
        """chooser: who answers. timeout_seconds: for each try. shadows: copies under way at most; beyond it they are dropped, never queued."""
        self.ways = ways
        self._chooser = chooser
        self.traffic: dict[str, Traffic] = {}
        self._timeout = ClientTimeout(total=timeout_seconds)
        self._shadows = shadows
        self._copies: set[asyncio.Task[None]] = set()
        self._session: ClientSession | None = None
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
        answer = await self._ask(ways, chosen, request, headers, body)
        for other in ways.after(chosen):
            if answer is not None and answer.status not in _AGAIN:
                break
            found = await self._ask(ways, other, request, headers, body)
            if found is not None:
                chosen, answer = other, found
        if answer is None:
            words = {"error": f"no server answered, neither that of bundle {chosen[:12]} nor another"}
            return web.json_response(words, status=502)
        answer.headers[HEADER_ANSWERED_BY] = chosen
        return answer

    async def _ask(
        self, ways: Ways, bundle: str, request: web.Request, headers: CIMultiDict[str], body: bytes
    ) -> web.Response | None:
        """The bundle's answer, counted; None when there was none."""
        start = time.perf_counter()
        answer = await self._exchange(ways.urls[bundle], request, headers, body)
        failed = answer is None or answer.status >= 500
        if request.method == "POST":
            self._of(bundle).live.add(time.perf_counter() - start, failed=failed)
        return answer

    def _copy(self, ways: Ways, request: web.Request, headers: CIMultiDict[str], body: bytes) -> None:
        bundle = ways.split.shadow
        assert bundle is not None
        if len(self._copies) >= self._shadows:
            self._of(bundle).dropped += 1
            return

        async def send() -> None:
            start = time.perf_counter()
            answer = await self._exchange(ways.urls[bundle], request, headers, body)
            failed = answer is None or answer.status >= 500
            self._of(bundle).shadow.add(time.perf_counter() - start, failed=failed)

        copy = asyncio.create_task(send())
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def _exchange(
        self, url: str, request: web.Request, headers: CIMultiDict[str], body: bytes
    ) -> web.Response | None:
        assert self._session is not None
        try:
            async with self._session.request(
                request.method, url + request.raw_path, data=body, headers=headers, timeout=self._timeout
            ) as answer:
                kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _OWN)
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except (ClientError, TimeoutError, OSError):
            return None

    def _of(self, bundle: str) -> Traffic:
        return self.traffic.setdefault(bundle, Traffic())


__all__ = ["HEADER_ANSWERED_BY", "HEADER_USER", "Chooser", "Door", "Traffic", "Ways", "by_share"]
