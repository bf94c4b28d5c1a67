"""The feature store of a running endpoint fails in every way it can, under load: rankings are answered all the same, in time, and say so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from clickmill import contract as contracts
from clickmill.bundle import Store
from clickmill.progress import SILENT
from serving.features import encoded, publication_of, shelf_at
from serving.process import Endpoint, running_server
from tests.integration.fault_server import RUN
from tests.integration.load_process import Plan, Report, Request, callers
from tests.serving.features.online_folder import write_folder
from tests.serving.features.redis_process import RedisProcess, running_redis
from tests.serving.small_bundle import ADS, CONTRACT, logit_of, write_small_bundle

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

LOOKED_UP = contracts.loads(
    contracts.dumps(CONTRACT)
    .replace("role: sequence", "lookup_by: user_id\n    role: sequence")
    .replace("  price:\n    role: ad", "  price:\n    lookup_by: ad_id\n    role: ad")
)
"""As the contract of the small bundle, with a user's history and an ad's price in the store."""

USERS = {f"u{n}": {"history": ["x"] * (n % 5)} for n in range(20)}
PRICES = {ad: {"price": float(10 * number)} for number, ad in enumerate(ADS, start=1)}
WAIT_MS, DEADLINE = 250.0, 2.0
"""Long enough that a healthy store is heard on a busy machine; a slow one takes four times as long."""


class Proxy:
    """A loopback port in front of another one; what goes through can be held up."""

    def __init__(self, target: int) -> None:
        self.delay_seconds = 0.0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, forth), self._pass(back, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.close()

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running_redis(tmp_path_factory.mktemp("redis")) as redis:
        online = write_folder(tmp_path_factory.mktemp("x") / "online", USERS, PRICES, contract=LOOKED_UP)
        rows = {by: encoded(online, by) for by in ("user_id", "ad_id")}
        publication = publication_of(online, LOOKED_UP)
        shelf_at(redis.url, LOOKED_UP.name).put(publication, rows, allow_older=False, progress=SILENT)
        redis.save()
        yield redis


@pytest.fixture(scope="module")
def proxy(redis: RedisProcess) -> Iterator[Proxy]:
    proxy = Proxy(redis.port)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def endpoint(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    root = tmp_path_factory.mktemp("bundle")
    store = Store(root / "store")
    store.add(write_small_bundle(root / "small", contract=LOOKED_UP))
    ranking = {"feature_wait_ms": WAIT_MS, "feature_cache_seconds": 0.0}
    features = f"redis://127.0.0.1:{proxy.port}/0"
    options: dict[str, Any] = {"features": features, "ranking": ranking, "wait_seconds": 500}
    with running_server(store.root, model_name="small", python=RUN, **options) as endpoint:
        yield endpoint


def rankings() -> list[Request]:
    """Users and ads by their ids alone, and what is right with the store's values and with the contract's defaults."""
    rng = np.random.default_rng(5)
    found = []
    for user, kept in USERS.items():
        ads = [str(ad) for ad in rng.choice(list(ADS), rng.integers(1, 9))]
        body = {
            "user": {"user_id": user},
            "candidates": [{"ad_id": ad, "bid": 1.0} for ad in ads],
            "slots": len(ads),
        }
        looked_up = [logit_of({"ad_id": ad, **PRICES[ad], **kept}) for ad in ads]
        found.append(
            Request(
                "/v1/models/small:rank",
                orjson.dumps(body).decode(),
                {"1": looked_up},
                {"x-request-timeout-ms": str(int(DEADLINE * 1e3))},
                {"1": [logit_of({"ad_id": ad}) for ad in ads]},
            )
        )
    return found


@contextlib.contextmanager
def trouble(endpoint: Endpoint, begin: Callable[[], Any], end: Callable[[], Any]) -> Iterator[list[Report]]:
    """Load; two seconds of health, three of trouble, six of health: reports of the three, the last without its first five seconds."""
    target = endpoint.url.removeprefix("http://")
    parts: list[Report] = []
    with callers(Plan([target], rankings(), rate=40.0)) as report:
        time.sleep(2)
        began = time.monotonic()
        begin()
        in_it = time.monotonic()
        try:
            time.sleep(3)
        finally:
            over = time.monotonic()
            end()
            healthy = time.monotonic()
        time.sleep(7)
    parts += [
        report.between(0, began - DEADLINE / 2),
        report.between(in_it + 0.5, over),
        report.between(healthy + 5),
    ]
    assert report.unanswered == [], "whatever the store does"
    assert report.quantile(0.9, "right", "defaulted", "marked") <= DEADLINE
    yield parts


def heard(report: Report) -> float:
    """Share of the rankings that got the store's values. In two seconds a single stall of the machine takes some of it."""
    return report.count("right") / len(report.records)


TROUBLES: dict[str, Callable[[RedisProcess, Proxy], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "killed and started again": lambda redis, proxy: (redis.kill, redis.start),
    "hung": lambda redis, proxy: (redis.hang, redis.go_on),
    "slow": lambda redis, proxy: (
        lambda: setattr(proxy, "delay_seconds", 4 * WAIT_MS / 1e3),
        lambda: setattr(proxy, "delay_seconds", 0.0),
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_rankings_are_answered_by_defaults_and_say_so_until_redis_is_back(name, endpoint, redis, proxy):
    begin, end = TROUBLES[name](redis, proxy)
    with trouble(endpoint, begin, end) as (before, during, after):
        assert heard(before) > 0.5
        assert during.count("defaulted", "marked") == len(during.records) > 50
        assert during.count("defaulted") > 0
        assert heard(after) > 0.5, "five seconds later the store is heard again"


def test_the_scrape_has_every_metric_that_the_docs_tell(endpoint):
    from tests.serving.test_metrics import told

    text = httpx.get(f"{endpoint.url}/metrics", timeout=60, trust_env=False).text
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE clickmill_"))
    found = {name: kind for name, kind in types.items() if not name.endswith("_created")}
    assert found == {name: kind for name, (kind, _) in told().items()}
