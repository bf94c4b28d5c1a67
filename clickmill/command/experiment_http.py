"""Rankings of `clickmill experiment demo` over HTTP: what the endpoint of a running experiment answers, as its caller would log it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clickmill.errors import ClickmillError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from clickmill.contract import FeatureContract

AT_ONCE = 4
TRIES = 30
"""Of one request, a second apart: a machine that is busy with other things turns some away."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What was shown in the requests that were sent; m impressions."""

    arms: list[str]
    """Of each request, as the endpoint says."""
    candidate: np.ndarray
    """(m,) which row of the candidates."""
    slot: np.ndarray
    """(m,) from 1."""
    price: np.ndarray
    """(m,) of a click."""
    bundles: frozenset[str]
    """Digests of those that answered."""


def bodies(rows: pa.Table, request: np.ndarray, contract: FeatureContract, slots: int) -> list[bytes]:
    """A ranking for each request: user and context once, and its candidates, with all that the contract reads but the slot."""
    import orjson

    from clickmill.features.sides import shared_fields
    from serving.rows import json_rows

    shared = shared_fields(contract)
    own = [name for name in contract.inputs if name not in shared and name != "position"]
    values = json_rows(rows, [*contract.inputs, "bid"])
    first = _begins(request).tolist()
    made = []
    for begin, end in zip(first, [*first[1:], len(values)], strict=True):
        candidates = [
            {"bid": row["bid"], **{name: row[name] for name in own if name in row}}
            for row in values[begin:end]
        ]
        user = {name: value for name, value in values[begin].items() if name in shared}
        made.append(orjson.dumps({"slots": slots, "user": user, "candidates": candidates}))
    return made


def _begins(request: np.ndarray) -> np.ndarray:
    """Of each request, its first row."""
    import numpy as np

    return np.flatnonzero(np.r_[True, request[1:] != request[:-1]])


def ask(url: str, sent: Sequence[bytes], request: np.ndarray, progress: Any) -> Answers:
    """Send all and wait for the answers. Raises ClickmillError for one that is refused."""
    import numpy as np

    from serving.arms import HEADER_ARM

    found = asyncio.run(_ask(url, sent, progress))
    first = _begins(request)
    shown = [answer["ranked"] for _, answer in found]
    counts = [len(ads) for ads in shown]
    ads = [ad for those in shown for ad in those]
    return Answers(
        arms=[headers[HEADER_ARM] for headers, _ in found],
        candidate=np.repeat(first[: len(sent)], counts) + np.array([ad["candidate"] for ad in ads]),
        slot=np.concatenate([np.arange(1, n + 1) for n in counts]),
        price=np.array([ad["price"] for ad in ads], np.float64),
        bundles=frozenset(answer["bundle_digest"] for _, answer in found),
    )


async def _ask(url: str, sent: Sequence[bytes], progress: Any) -> list[tuple[Any, dict[str, Any]]]:
    from aiohttp import ClientSession, TCPConnector

    found: list[Any] = [None] * len(sent)
    waiting = iter(range(len(sent)))

    async def work(session: ClientSession) -> None:
        for at in waiting:
            found[at] = await _one(session, url, sent[at])
            progress.advance(1)

    progress.start("rank over HTTP", len(sent), "requests")
    async with ClientSession(connector=TCPConnector(limit=AT_ONCE)) as session:
        await asyncio.gather(*(work(session) for _ in range(AT_ONCE)))
    progress.finish()
    return found


async def _one(session: Any, url: str, body: bytes) -> tuple[Any, dict[str, Any]]:
    # a fallback's answer is none of the bundle's: it shall be refused, and asked for again
    headers = {"content-type": "application/json", "x-clickmill-on-failure": "error"}
    status, words = 0, ""
    for _ in range(TRIES):
        async with session.post(url, data=body, headers=headers) as answer:
            if answer.status == 200:
                return answer.headers, await answer.json()
            status, words = answer.status, await answer.text()
        if status not in (502, 503, 504):
            break
        await asyncio.sleep(1.0)
    raise ClickmillError(f"{url} answered {status}: {words[:300]}")
