"""A Redis that is killed, hung and started again under reads: every read has its answer, none a wrong one, and all by itself."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clickmill.progress import SILENT
from serving.features import (
    BreakerPolicy,
    FeatureMetrics,
    Lookup,
    Outcome,
    encoded,
    publication_of,
    shelf_at,
    store_at,
)
from tests.serving.features.online_folder import AS_OF, CONTRACT, write_folder
from tests.serving.features.redis_process import RedisProcess, running_redis

pytestmark = pytest.mark.integration

DEADLINE_S = 0.1
"""Of each read. Ten times what an endpoint would give: the machine that tests run on may be busy."""
USERS = 200
DEFAULT = 0.5


@pytest.fixture
def redis(tmp_path: Path):
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder) as running:
        online = write_folder(tmp_path / "online", {f"u{i}": {"user_ctr": i / 256} for i in range(USERS)}, {})
        publication = publication_of(online, CONTRACT)
        rows = {by: encoded(online, by) for by in publication.entities}
        shelf_at(running.url, "shop").put(publication, rows, allow_older=False, progress=SILENT)
        running.save()
        yield running


class Traffic:
    """Requests for users in turn, eight at a time, each checked: the user's own value, or the default."""

    def __init__(self, redis: RedisProcess) -> None:
        self.registry = CollectorRegistry()
        self.store = store_at(redis.url, "shop")
        self.lookup = Lookup(
            CONTRACT,
            self.store,
            FeatureMetrics(self.registry),
            breaker=BreakerPolicy(pause_s=0.2),
            clock=lambda: AS_OF.timestamp(),
        )
        self.outcomes: list[Outcome] = []
        self.turn = 0

    async def read(self) -> Outcome:
        first = self.turn = (self.turn + 5) % USERS
        users = [(first + k) % USERS for k in range(3)]
        found = await self.lookup.find({"user_id": [f"u{u}" for u in users]}, deadline_s=DEADLINE_S)
        own = [u / 256 for u in users]
        expected = own if found.outcome is Outcome.OK else [DEFAULT] * 3
        assert found.raw["user_ctr"].tolist() == expected, found
        self.outcomes.append(found.outcome)
        return found.outcome

    async def until_all(self, wanted: Outcome) -> None:
        """Go on until eight reads at once all end so; fails when they never do."""
        for _ in range(2000):
            if set(await asyncio.gather(*(self.read() for _ in range(8)))) == {wanted}:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"reads never ended {wanted}; the last: {self.outcomes[-10:]}")

    async def for_a_while(self, rounds: int = 30) -> list[Outcome]:
        before = len(self.outcomes)
        for _ in range(rounds):
            await asyncio.gather(*(self.read() for _ in range(8)))
            await asyncio.sleep(0.01)
        return self.outcomes[before:]

    def defaults(self) -> dict[str, float]:
        return {
            s.labels["reason"]: s.value
            for m in self.registry.collect()
            for s in m.samples
            if s.name == "clickmill_features_defaulted_total" and s.labels["field"] == "user_ctr"
        }


def run(redis, scenario):
    async def whole():
        traffic = Traffic(redis)
        try:
            await traffic.until_all(Outcome.OK)
            await scenario(traffic)
        finally:
            await traffic.lookup.close()
        return traffic

    return asyncio.run(whole())


def test_killed_and_started_again(redis):
    async def scenario(traffic):
        redis.kill()
        down = await traffic.for_a_while()
        assert Outcome.OK not in down
        assert down.count(Outcome.SKIPPED) > len(down) / 2  # it is left alone, not asked by every request
        redis.start()
        await traffic.until_all(Outcome.OK)

    traffic = run(redis, scenario)
    defaulted = 3 * sum(o is not Outcome.OK for o in traffic.outcomes)
    assert sum(traffic.defaults().values()) == defaulted
    assert traffic.defaults()["unreachable"] > 0


def test_hung_and_going_on(redis):
    async def scenario(traffic):
        redis.hang()
        hung = await traffic.for_a_while()  # it ends while Redis still hangs: no read waits for it
        assert set(hung) <= {Outcome.LATE, Outcome.SKIPPED, Outcome.FAILED}
        assert Outcome.LATE in hung
        assert hung.count(Outcome.SKIPPED) > len(hung) / 2
        redis.go_on()
        # answers to the reads from before come now, on connections that other reads will use: `read` checks that none gets them
        await traffic.until_all(Outcome.OK)

    traffic = run(redis, scenario)
    assert sum(traffic.defaults().values()) == 3 * sum(o is not Outcome.OK for o in traffic.outcomes)
    assert traffic.defaults()["late"] > 0


def test_started_again_without_its_data(redis):
    async def scenario(traffic):
        redis.kill()
        await traffic.for_a_while(5)
        redis.forget()
        redis.start()
        for _ in range(2000):
            found = await traffic.lookup.find({"user_id": ["u1"]}, deadline_s=DEADLINE_S)
            if found.outcome is Outcome.OK:
                break
            await asyncio.sleep(0.02)
        assert found.outcome is Outcome.OK
        assert found.raw["user_ctr"].tolist() == [DEFAULT]
        assert found.version is None

    traffic = run(redis, scenario)
    assert traffic.defaults()["not_published"] == 1


def test_not_there_at_the_start(redis):
    """An endpoint that comes up before its Redis serves defaults, and values as soon as there are any."""
    redis.kill()

    async def whole():
        traffic = Traffic(redis)
        assert Outcome.OK not in await traffic.for_a_while(10)
        redis.start()
        await traffic.until_all(Outcome.OK)
        await traffic.lookup.close()

    asyncio.run(whole())
