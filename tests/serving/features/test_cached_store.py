"""A remembered row is the store's own row, of one publication, no older than it may be; and nobody reads what another is reading."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.features import CachedStore, Stored, StoreUnreachable
from serving.features.publication import Publication
from tests.serving.features.online_folder import AS_OF


def publication(number: int) -> Publication:
    return Publication(
        contract="shop", version=f"v{number}", as_of=AS_OF + timedelta(number), entities={}, definitions={}
    )


class Counted:
    """A FeatureStore whose rows tell their publication; it notes what it is asked, and can wait or fail."""

    address = "counted"

    def __init__(self) -> None:
        self.number = 1
        self.reads: list[dict[str, list[str]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False

    async def read(self, ids):
        self.reads.append({entity: sorted(given) for entity, given in ids.items()})
        number = self.number
        await self.gate.wait()
        if self.down:
            raise StoreUnreachable("counted: is down")
        row = {
            entity: [None if i == "?" else f"{number}:{i}".encode() for i in g] for entity, g in ids.items()
        }
        return Stored(publication(number), row)

    async def close(self) -> None:
        pass


class House:
    def __init__(self, *, rows: int = 100, seconds: float = 5.0) -> None:
        self.now, self.store = 0.0, Counted()
        self.counts = {"hit": 0, "shared": 0, "miss": 0}
        self.cached = CachedStore(
            self.store, rows=rows, seconds=seconds, count=self.count, clock=lambda: self.now
        )

    def count(self, outcome: str, ids: int) -> None:
        self.counts[outcome] += ids


def test_what_was_read_is_not_read_again_until_it_is_old():
    async def scenario() -> None:
        house = House()
        wanted = {"user_id": ["ann"], "ad_id": ["7", "8", "7", "?"]}
        first = await house.cached.read(wanted)
        assert first.rows == {"user_id": [b"1:ann"], "ad_id": [b"1:7", b"1:8", b"1:7", None]}
        house.now = 4.9
        again = await house.cached.read({"user_id": ["ann"], "ad_id": ["9", "7", "?"]})
        assert again.rows == {"user_id": [b"1:ann"], "ad_id": [b"1:9", b"1:7", None]}
        assert again.publication == publication(1)
        house.now = 5.1
        await house.cached.read({"user_id": ["ann"], "ad_id": ["9"]})
        assert house.store.reads == [
            {"user_id": ["ann"], "ad_id": ["7", "8", "?"]}, {"ad_id": ["9"]}, {"user_id": ["ann"]},
        ]  # fmt: skip
        assert house.counts == {"hit": 4, "shared": 0, "miss": 6}

    asyncio.run(scenario())


def test_many_who_miss_the_same_at_once_make_one_read():
    async def scenario() -> None:
        house = House()
        house.store.gate.clear()
        asking = [asyncio.create_task(house.cached.read({"user_id": ["ann"]})) for _ in range(50)]
        other = asyncio.create_task(house.cached.read({"user_id": ["ann", "bob"]}))
        await asyncio.sleep(0.01)
        house.store.gate.set()
        found = await asyncio.gather(*asking, other)
        assert {tuple(one.rows["user_id"]) for one in found} == {(b"1:ann",), (b"1:ann", b"1:bob")}
        assert house.store.reads == [{"user_id": ["ann"]}, {"user_id": ["bob"]}]
        assert house.counts == {"hit": 0, "shared": 50, "miss": 2}

    asyncio.run(scenario())


def test_a_failure_is_told_to_all_who_waited_and_forgotten():
    async def scenario() -> None:
        house = House()
        house.store.gate.clear()
        house.store.down = True
        asking = [asyncio.create_task(house.cached.read({"user_id": ["ann"]})) for _ in range(3)]
        await asyncio.sleep(0.01)
        house.store.gate.set()
        for one in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(one, StoreUnreachable)
        house.store.down = False
        assert (await house.cached.read({"user_id": ["ann"]})).rows == {"user_id": [b"1:ann"]}
        assert len(house.store.reads) == 2

    asyncio.run(scenario())


def test_one_who_gives_up_takes_nothing_from_the_others():
    async def scenario() -> None:
        house = House()
        house.store.gate.clear()
        gone, stays = (asyncio.create_task(house.cached.read({"user_id": ["ann"]})) for _ in range(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        house.store.gate.set()
        assert (await stays).rows == {"user_id": [b"1:ann"]}

    asyncio.run(scenario())


def test_a_publication_is_never_mixed_with_what_is_remembered_of_the_one_before():
    async def scenario() -> None:
        house = House()
        await house.cached.read({"user_id": ["ann"]})
        house.store.number = 2
        found = await house.cached.read({"user_id": ["ann"], "ad_id": ["7"]})
        assert found == Stored(publication(2), {"user_id": [b"2:ann"], "ad_id": [b"2:7"]})
        before = len(house.store.reads)
        assert (await house.cached.read({"ad_id": ["7"]})).rows == {"ad_id": [b"2:7"]}
        assert len(house.store.reads) == before

    asyncio.run(scenario())


def test_a_read_of_nothing_asks_the_store_what_is_published():
    house = House()
    assert asyncio.run(house.cached.read({"user_id": []})) == Stored(publication(1), {"user_id": []})


def test_no_more_rows_are_kept_than_there_is_room_for():
    async def scenario() -> None:
        house = House(rows=2)
        found = await house.cached.read({"ad_id": ["1", "2", "3"]})
        assert found.rows == {"ad_id": [b"1:1", b"1:2", b"1:3"]}
        await house.cached.read({"ad_id": ["1", "2", "3"]})
        assert sum(len(read["ad_id"]) for read in house.store.reads) >= 4, "one of them was not kept"

    asyncio.run(scenario())


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "publish", "wait"]),
            st.lists(st.sampled_from("abcd?"), min_size=1, max_size=4),
        ),
        max_size=20,
    )
)
def test_whatever_happens_an_answer_is_of_one_publication_and_not_older_than_allowed(steps):
    async def scenario() -> None:
        house = House(rows=3, seconds=1.0)
        published = {1: 0.0}
        for what, ids in steps:
            if what == "publish":
                house.store.number += 1
                published[house.store.number] = house.now
            elif what == "wait":
                house.now += 0.6
            else:
                found = await house.cached.read({"ad_id": ids})
                number = int(found.publication.version[1:])
                assert found.rows["ad_id"] == [None if i == "?" else f"{number}:{i}".encode() for i in ids]
                if number < house.store.number:
                    assert house.now - published[number + 1] <= 1.0

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_the_real_stores_answer_alike_with_a_memory(kind, request, tmp_path):
    from clickmill.progress import SILENT
    from serving.features import encoded, publication_of, shelf_at, store_at
    from tests.serving.features.online_folder import ADS, CONTRACT, USERS, write_folder

    target = str(tmp_path / "shop.features") if kind == "file" else request.getfixturevalue("redis").url
    online = write_folder(tmp_path / "online", USERS, ADS)
    rows = {by: encoded(online, by) for by in ("user_id", "ad_id")}
    shelf_at(target, "shop").put(publication_of(online, CONTRACT), rows, allow_older=True, progress=SILENT)

    async def scenario() -> None:
        plain, cached = store_at(target, "shop"), CachedStore(store_at(target, "shop"), rows=10, seconds=60)
        wanted = {"user_id": ["ann", "eve"], "ad_id": ["7", "9", "8"]}
        expected = await plain.read(wanted)
        assert [await cached.read(wanted) for _ in range(3)] == [expected] * 3
        await plain.close()
        await cached.close()

    asyncio.run(scenario())
