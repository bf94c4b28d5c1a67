"""Every store keeps the same promises: what was published is read, all of it or nothing of it."""

import asyncio
import threading
import time
from datetime import timedelta

import orjson
import pytest

from clickmill.errors import DataError, UsageError
from clickmill.progress import SILENT
from serving.features import StoreUnreachable, encoded, publication_of, shelf_at, store_at
from serving.features.store import without_password
from tests.serving.features.online_folder import ADS, AS_OF, CONTRACT, USERS, write_folder
from tests.serving.features.redis_process import running_redis


def publish(online, target, *, allow_older=False):
    publication = publication_of(online, CONTRACT)
    rows = {by: encoded(online, by, rows=2) for by in publication.entities}
    return shelf_at(target, "shop").put(
        publication, rows, allow_older=allow_older, progress=SILENT
    ), publication


def read(target, ids):
    async def once():
        store = store_at(target, "shop")
        try:
            return await store.read(ids)
        finally:
            await store.close()

    return asyncio.run(once())


def test_rows_come_in_the_order_asked_for_and_none_for_the_unknown(target, tmp_path):
    online = write_folder(tmp_path / "online", USERS, ADS)
    written, publication = publish(online, target)
    assert written
    stored = read(target, {"user_id": ["bob", "nobody", "zoë", "bob"], "ad_id": ["8", "7", ""]})
    micros = int(AS_OF.timestamp() * 1e6)
    bob = [0.125, None, [1, 2, 3, 4], None, micros]
    assert [r and orjson.loads(r) for r in stored.rows["user_id"]] == [
        bob,
        None,
        [None, "retirees", None, micros, None],
        bob,
    ]
    assert [r and orjson.loads(r) for r in stored.rows["ad_id"]] == [
        [0, 1.25, False, micros, micros],
        [3, 2.5, True, micros, micros],
        None,
    ]
    assert stored.publication == publication
    assert publication.entities["user_id"].fields == ("user_ctr", "segment", "last_ads")
    assert publication.entities["user_id"].timed == ("segment", "last_ads")
    assert publication.as_of == AS_OF


def test_an_empty_store_says_that_nothing_is_published(target):
    stored = read(target, {"user_id": ["ann"], "ad_id": []})
    assert stored.publication is None
    assert {by: list(rows) for by, rows in stored.rows.items()} == {"user_id": [None], "ad_id": []}


def test_the_same_features_are_written_once(target, tmp_path):
    online = write_folder(tmp_path / "online", USERS, ADS)
    again = write_folder(tmp_path / "again", USERS, ADS)
    other = write_folder(tmp_path / "other", USERS | {"ann": {"user_ctr": 0.26}}, ADS)
    assert publish(online, target)[0]
    assert not publish(again, target)[0]
    assert publish(other, target)[0]


def test_what_is_gone_from_the_data_is_gone_from_the_store(target, tmp_path):
    publish(write_folder(tmp_path / "a", USERS, ADS), target)
    publish(write_folder(tmp_path / "b", {"ann": USERS["ann"]}, {}, as_of=AS_OF + timedelta(hours=1)), target)
    stored = read(target, {"user_id": ["ann", "bob"], "ad_id": ["7"]})
    assert [r is not None for r in stored.rows["user_id"]] == [True, False]
    assert stored.rows["ad_id"] == [None]


def test_older_features_replace_later_ones_only_when_that_is_meant(target, tmp_path):
    publish(write_folder(tmp_path / "new", USERS, ADS, as_of=AS_OF + timedelta(hours=1)), target)
    old = write_folder(tmp_path / "old", USERS, ADS)
    with pytest.raises(UsageError, match="holds features as of 2026-01-05 13:00:00 UTC, later than these"):
        publish(old, target)
    assert read(target, {"user_id": ["ann"]}).publication.as_of == AS_OF + timedelta(hours=1)
    assert publish(old, target, allow_older=True)[0]
    assert read(target, {"user_id": ["ann"]}).publication.as_of == AS_OF


def test_features_of_another_contract_are_not_published(target, tmp_path):
    changed = CONTRACT.model_copy(update={"version": 2})
    online = write_folder(tmp_path / "online", USERS, ADS, contract=changed)
    with pytest.raises(
        UsageError, match="was made by another contract than `shop` version 1; prepare the data again"
    ):
        publish(online, target)


def test_a_reader_never_sees_half_a_publication(target, tmp_path):
    """Two publications in turn, whose values say which one they are of, while a reader reads users and ads together."""
    folders = [
        write_folder(
            tmp_path / f"p{k}",
            {f"u{i}": {"user_ctr": k / 8} for i in range(40)},
            {str(i): {"ad_clicks": k} for i in range(40)},
        )
        for k in (1, 2)
    ]
    versions = {publication_of(folder, CONTRACT).version: k for k, folder in enumerate(folders, 1)}
    publish(folders[0], target)
    stop = threading.Event()

    def keep_publishing():
        turn = 0
        while not stop.is_set():
            turn += 1
            publish(folders[turn % 2], target)

    async def keep_reading():
        store = store_at(target, "shop")
        ids = {"user_id": [f"u{i}" for i in range(40)], "ad_id": [str(i) for i in range(40)]}
        seen = set()
        for _ in range(2000):
            stored = await store.read(ids)
            which = versions[stored.publication.version]
            assert {orjson.loads(r)[0] for r in stored.rows["user_id"]} == {which / 8}
            assert {orjson.loads(r)[0] for r in stored.rows["ad_id"]} == {which}
            seen.add(which)
            if seen == {1, 2} and _ > 200:
                break
        await store.close()
        return seen

    publisher = threading.Thread(target=keep_publishing)
    publisher.start()
    try:
        assert asyncio.run(keep_reading()) == {1, 2}
    finally:
        stop.set()
        publisher.join()


def test_nothing_but_the_publication_stays_in_redis(redis, tmp_path):
    redis.client().flushall()
    for k in range(3):
        online = write_folder(tmp_path / f"p{k}", USERS, ADS, as_of=AS_OF + timedelta(hours=k))
        publish(online, redis.url)
    keys = {key.decode(): redis.client().ttl(key) for key in redis.client().scan_iter()}
    assert keys == {
        "clickmill:features:{shop}": -1,
        "clickmill:features:{shop}:user_id": -1,
        "clickmill:features:{shop}:ad_id": -1,
    }


def test_a_publisher_that_dies_leaves_readers_what_they_had_and_its_rest_expires(redis, tmp_path):
    redis.client().flushall()
    publish(write_folder(tmp_path / "a", USERS, ADS), redis.url)
    later = write_folder(
        tmp_path / "b", USERS | {"carl": {"user_ctr": 0.75}}, ADS, as_of=AS_OF + timedelta(hours=1)
    )

    def dying():
        yield next(encoded(later, "user_id", rows=2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf_at(redis.url, "shop").put(
            publication_of(later, CONTRACT), {"user_id": dying()}, allow_older=False, progress=SILENT
        )
    assert read(redis.url, {"user_id": ["ann"]}).publication.as_of == AS_OF
    rest = [key for key in redis.client().scan_iter() if b":new:" in key]
    assert len(rest) == 1
    assert 0 < redis.client().ttl(rest[0]) <= 900


def test_a_publisher_that_dies_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "shop.features"
    publish(write_folder(tmp_path / "a", USERS, ADS), str(target))
    later = write_folder(tmp_path / "b", USERS, ADS, as_of=AS_OF + timedelta(hours=1))

    def dying():
        yield next(encoded(later, "user_id", rows=2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf_at(str(target), "shop").put(
            publication_of(later, CONTRACT),
            {"user_id": dying(), "ad_id": iter(())},
            allow_older=False,
            progress=SILENT,
        )
    assert read(str(target), {"user_id": ["ann"]}).publication.as_of == AS_OF
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "shop.features"]


def test_a_file_that_is_something_else_is_neither_read_nor_overwritten(tmp_path):
    precious = tmp_path / "notes.txt"
    precious.write_text("x" * 5000)
    with pytest.raises(UsageError, match=r"is no feature store .*name another file"):
        publish(write_folder(tmp_path / "a", USERS, ADS), str(precious))
    with pytest.raises(StoreUnreachable, match="cannot be read as a feature store"):
        read(str(precious), {"user_id": ["ann"]})
    assert precious.read_text() == "x" * 5000
    with pytest.raises(UsageError, match="is a folder; give the path of a file"):
        shelf_at(str(tmp_path), "shop")


def test_features_of_another_market_are_not_overwritten(tmp_path):
    target = str(tmp_path / "shop.features")
    publish(write_folder(tmp_path / "a", USERS, ADS), target)
    with pytest.raises(
        UsageError, match="holds the features of contract `shop`, not of `other`; name another file"
    ):
        shelf_at(target, "other").current()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"could not be written .*Readers have what they had"):
        publish(write_folder(tmp_path / "a", USERS, ADS), str(tmp_path / "file" / "shop.features"))


def test_a_redis_that_is_not_there_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        StoreUnreachable, match=r"redis://127.0.0.1:1/0: .*; check that redis-server runs there"
    ):
        publish(write_folder(tmp_path / "a", USERS, ADS), "redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnreachable, match="check that redis-server runs there"):
        read("redis://127.0.0.1:1/0", {"user_id": ["ann"]})


def test_addresses_are_told_apart_and_passwords_stay_secret():
    assert without_password("redis://me:secret@host:1/2") == "redis://host:1/2"
    with pytest.raises(UsageError, match="mysql://host/db: is no feature store; give redis://HOST:PORT/DB"):
        store_at("mysql://u:p@host/db", "shop")


def test_a_password_that_is_wrong_is_told_as_such(redis, tmp_path):
    client = redis.client()
    client.config_set("requirepass", "right")
    try:
        with pytest.raises(StoreUnreachable, match="give user and password in the URL") as caught:
            publish(write_folder(tmp_path / "a", USERS, ADS), redis.url.replace("//", "//:wrong@"))
        assert "wrong@" not in str(caught.value)
        with pytest.raises(StoreUnreachable, match="give user and password in the URL"):
            read(redis.url, {"user_id": ["ann"]})
    finally:
        client.config_set("requirepass", "")


def test_a_redis_without_room_says_so_and_readers_keep_what_they_had(redis, tmp_path):
    redis.client().flushall()
    publish(write_folder(tmp_path / "a", USERS, ADS), redis.url)
    later = write_folder(tmp_path / "b", USERS, ADS, as_of=AS_OF + timedelta(hours=1))
    redis.client().config_set("maxmemory", "1kb")
    try:
        with pytest.raises(
            StoreUnreachable, match=r"raise its maxmemory: a publication needs room beside the one in"
        ):
            publish(later, redis.url)
    finally:
        redis.client().config_set("maxmemory", "0")
    assert read(redis.url, {"user_id": ["ann"]}).publication.as_of == AS_OF


def test_a_replica_is_read_and_not_written(redis, tmp_path):
    redis.client().flushall()
    publish(write_folder(tmp_path / "a", USERS, ADS), redis.url)
    later = write_folder(tmp_path / "b", USERS, ADS, as_of=AS_OF + timedelta(hours=1))
    folder = tmp_path / "replica"
    folder.mkdir()
    with running_redis(folder) as replica:
        redis.client().config_set("repl-diskless-sync-delay", "0")
        replica.client().replicaof("127.0.0.1", str(redis.port))
        while replica.client().get("clickmill:features:{shop}") is None:
            time.sleep(0.02)
        assert read(replica.url, {"user_id": ["ann"]}).publication.as_of == AS_OF
        with pytest.raises(StoreUnreachable, match="this is a replica; publish to its primary"):
            publish(later, replica.url)
