"""What a request gets: the store's values where they are known and fresh, the contract's defaults elsewhere, counted."""

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from clickmill.features.tensors import PAD_INT64
from clickmill.progress import SILENT
from serving.features import (
    BreakerPolicy,
    FeatureMetrics,
    Lookup,
    Outcome,
    Reason,
    Stored,
    StoreUnreachable,
    encoded,
    publication_of,
    shelf_at,
    store_at,
)
from tests.serving.features.online_folder import ADS, AS_OF, CONTRACT, USERS, write_folder

NOW = AS_OF.timestamp()
PLENTY = 60.0
"""Seconds; a deadline that no test is meant to reach."""


class MemoryStore:
    """A FeatureStore in a dict, that can be told to fail or to wait."""

    address = "memory"

    def __init__(self, online=None):
        self.publication = online and publication_of(online, CONTRACT)
        self.rows = {
            by: {k.decode(): v for part in encoded(online, by) for k, v in part.items()}
            for by in (self.publication.entities if online else ())
        }
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def read(self, ids):
        self.reads += 1
        await self.gate.wait()
        if self.down:
            raise StoreUnreachable("memory: is down; bring it up")
        return Stored(
            self.publication,
            {by: [self.rows.get(by, {}).get(i) for i in wanted] for by, wanted in ids.items()},
        )

    async def close(self):
        pass


def lookup_of(store, *, now=NOW, contract=CONTRACT, registry=None, **options):
    metrics = FeatureMetrics(CollectorRegistry() if registry is None else registry)
    return Lookup(contract, store, metrics, clock=lambda: now, **options)


def find(store, ids, *, deadline_s=PLENTY, **options):
    return asyncio.run(lookup_of(store, **options).find(ids, deadline_s=deadline_s))


@pytest.fixture
def online(tmp_path):
    return write_folder(tmp_path / "online", USERS, ADS, hours_ago=1.0)


def counts(registry):
    return {
        (s.labels["field"], s.labels["reason"]): s.value
        for m in registry.collect()
        for s in m.samples
        if s.name == "clickmill_features_defaulted_total"
    }


def test_values_come_as_raw_tensors_in_the_order_of_the_ids(online):
    found = find(MemoryStore(online), {"user_id": ["ann"], "ad_id": [8, 7, 8]})
    assert found.raw["user_ctr"].tolist() == [0.25]
    assert found.raw["segment"].tolist() == [b"gamers"]
    assert found.raw["last_ads"].tolist() == [[7, 8, PAD_INT64]]
    assert found.raw["ad_clicks"].tolist() == [0, 3, 0]
    assert found.raw["price"].tolist() == [1.25, 2.5, 1.25]
    assert found.raw["new"].tolist() == [False, True, False]
    kinds = {name: values.dtype for name, values in found.raw.items()}
    assert kinds == {
        "user_ctr": np.float32,
        "segment": object,
        "last_ads": np.int64,
        "ad_clicks": np.int64,
        "price": np.float32,
        "new": bool,
    }
    assert not any(r for reasons in found.reasons.values() for r in reasons)
    assert (found.outcome, found.as_of) == (Outcome.OK, AS_OF)


def test_a_long_history_keeps_its_last_items(online):
    assert find(MemoryStore(online), {"user_id": ["bob"]}).raw["last_ads"].tolist() == [[2, 3, 4]]


def test_what_is_not_known_takes_the_contracts_default_and_says_why(online):
    registry = CollectorRegistry()
    found = find(
        MemoryStore(online), {"user_id": ["bob", "zoë", "eve", None]}, registry=registry, now=NOW + 60
    )
    assert found.raw["user_ctr"].tolist() == [0.125, 0.5, 0.5, 0.5]
    assert found.raw["segment"].tolist() == [b"unknown", b"retirees", b"unknown", b"unknown"]
    # zoë was not shown anything in the window: her rate is the prior, which is known and no fault of the store
    assert found.reasons["user_ctr"].tolist() == [None, None, Reason.UNKNOWN_ID, Reason.NO_ID]
    assert found.reasons["segment"].tolist() == [Reason.NO_VALUE, None, Reason.UNKNOWN_ID, Reason.NO_ID]
    per_field = {"user_ctr": ("unknown_id", "no_id"), "segment": ("no_value", "unknown_id", "no_id")}
    per_field["last_ads"] = per_field["segment"]
    assert counts(registry) == {(f, r): 1 for f, reasons in per_field.items() for r in reasons}


@pytest.mark.parametrize(
    ("minutes", "ctr", "segment"),
    [
        (120, 0.25, b"gamers"),  # two hours after `as_of`, the very age that user_ctr may have
        (121, 0.5, b"gamers"),
        (23 * 60, 0.5, b"gamers"),  # logged an hour before `as_of`: a day old
        (23 * 60 + 1, 0.5, b"unknown"),
    ],
)
def test_a_value_is_used_until_it_is_older_than_the_contract_allows(online, minutes, ctr, segment):
    registry = CollectorRegistry()
    found = find(MemoryStore(online), {"user_id": ["ann"]}, now=NOW + minutes * 60, registry=registry)
    assert found.raw["user_ctr"].tolist() == [ctr]
    assert found.raw["segment"].tolist() == [segment]
    assert found.raw["last_ads"].tolist() == [
        [7, 8, PAD_INT64]
    ]  # no freshness in the contract: used at any age
    stale = {
        (f, "stale"): 1
        for f, default in {"user_ctr": ctr == 0.5, "segment": segment == b"unknown"}.items()
        if default
    }
    assert counts(registry) == stale
    assert [r.tolist() for r in found.reasons.values()] == [
        [Reason.STALE if ctr == 0.5 else None],
        [Reason.STALE if segment == b"unknown" else None],
        [None],
    ]


def test_the_age_of_every_value_found_is_exported(online):
    registry = CollectorRegistry()
    find(MemoryStore(online), {"user_id": ["ann", "bob", "zoë"]}, now=NOW + 1800, registry=registry)

    def age(suffix, field, **labels):
        return registry.get_sample_value(
            f"clickmill_feature_age_seconds_{suffix}", {"field": field, **labels}
        )

    assert age("count", "user_ctr") == 2
    assert age("sum", "user_ctr") == 2 * 1800
    assert age("count", "segment") == 2
    assert age("sum", "segment") == 2 * (1800 + 3600)
    assert age("bucket", "user_ctr", le="1800.0") == 2
    assert age("bucket", "user_ctr", le="900.0") == 0
    assert registry.get_sample_value("clickmill_features_as_of_timestamp_seconds") == NOW
    version = publication_of(online, CONTRACT).version
    assert registry.get_sample_value("clickmill_features_publication_info", {"version": version}) == 1


def test_an_empty_store_gives_defaults():
    found = find(MemoryStore(), {"user_id": ["ann"], "ad_id": [7]})
    assert (found.outcome, found.version) == (Outcome.OK, None)
    assert found.raw["price"].tolist() == [9.5]
    assert {r for reasons in found.reasons.values() for r in reasons} == {Reason.NOT_PUBLISHED}


def test_values_made_by_another_definition_are_not_used(online):
    """The endpoint's contract asks for a rate over a day; the store holds one over a week."""
    fields = dict(CONTRACT.fields)
    fields["user_ctr"] = fields["user_ctr"].model_copy(
        update={"aggregate": fields["user_ctr"].aggregate.model_copy(update={"window": timedelta(days=1)})}
    )
    changed = CONTRACT.model_copy(update={"fields": fields})
    found = find(MemoryStore(online), {"user_id": ["ann"]}, contract=changed)
    assert found.raw["user_ctr"].tolist() == [0.5]
    assert found.reasons["user_ctr"].tolist() == [Reason.NOT_PUBLISHED]
    assert found.raw["segment"].tolist() == [b"gamers"]


@pytest.mark.parametrize(
    "row", [b"{}", b"[1", b"[1, 2]", b'["x", "gamers", [7], 1, 1]', b'[0.5, 3, "x", 1, 1]']
)
def test_a_row_that_is_not_what_it_should_be_spoils_no_answer(online, row):
    store = MemoryStore(online)
    store.rows["user_id"]["ann"] = row
    found = find(store, {"user_id": ["ann", "bob"], "ad_id": [7]})
    assert found.raw["user_ctr"].tolist() == [0.5, 0.5]
    assert set(found.reasons["user_ctr"]) == {Reason.UNREADABLE}
    assert found.raw["price"].tolist() == [2.5]


def test_an_id_under_which_the_contract_keeps_nothing_is_a_bug_of_the_caller(online):
    with pytest.raises(KeyError, match="price"):
        find(MemoryStore(online), {"price": ["7"]})


@pytest.mark.parametrize("odd", ["\ud800", b"\xff", "a\0n", "", "x" * 10_000, -(2**70)])
def test_an_id_of_any_text_is_only_unknown(target, odd, online):
    publication = publication_of(online, CONTRACT)
    rows = {by: encoded(online, by) for by in publication.entities}
    shelf_at(target, "shop").put(publication, rows, allow_older=False, progress=SILENT)

    async def ask():
        lookup = lookup_of(store_at(target, "shop"))
        found = await lookup.find({"user_id": [odd, "ann"]}, deadline_s=PLENTY)
        await lookup.close()
        return found

    found = asyncio.run(ask())
    assert found.raw["user_ctr"].tolist() == [0.5, 0.25]
    assert found.reasons["user_ctr"].tolist() == [Reason.UNKNOWN_ID, None]


def test_no_ids_are_no_rows(online):
    found = find(MemoryStore(online), {"user_id": [], "ad_id": [None]})
    assert found.raw["last_ads"].shape == (0, 3)
    assert found.reasons["price"].tolist() == [Reason.NO_ID]


def test_a_store_that_does_not_answer_costs_the_deadline_and_its_late_answer_goes_nowhere(online):
    registry = CollectorRegistry()

    async def scenario():
        store = MemoryStore(online)
        lookup = lookup_of(store, registry=registry)
        store.gate.clear()
        late = await lookup.find({"user_id": ["ann"]}, deadline_s=0.01)
        store.gate.set()
        again = await lookup.find({"user_id": ["bob"]}, deadline_s=PLENTY)
        await lookup.close()
        return late, again

    late, again = asyncio.run(scenario())
    assert (late.outcome, late.raw["user_ctr"].tolist()) == (Outcome.LATE, [0.5])
    assert late.reasons["user_ctr"].tolist() == [Reason.LATE]
    assert (again.outcome, again.raw["user_ctr"].tolist()) == (Outcome.OK, [0.125])
    assert counts(registry) == {(f, "late"): 1 for f in CONTRACT.entities["user_id"]} | {
        ("segment", "no_value"): 1
    }


def test_a_store_that_fails_is_left_alone_and_tried_again(online, monkeypatch):
    async def scenario():
        store = MemoryStore(online)
        store.down = True
        lookup = lookup_of(store, breaker=BreakerPolicy(failures=3, pause_s=10.0))
        clock = [0.0]
        monkeypatch.setattr("serving.features.lookup.time.monotonic", lambda: clock[0])
        seen = []

        async def ask(at):
            clock[0] = at
            found = await lookup.find({"user_id": ["ann"]}, deadline_s=PLENTY)
            seen.append((at, str(found.outcome), store.reads))

        for at in (0.0, 1.0, 2.0, 3.0, 11.9):
            await ask(at)
        await ask(12.1)  # the pause is over: one try, which fails, and the next pause begins
        await ask(13.0)
        store.down = False
        await ask(22.0)
        await ask(22.2)
        await ask(22.3)
        return seen

    assert asyncio.run(scenario()) == [
        (0.0, "failed", 1),
        (1.0, "failed", 2),
        (2.0, "failed", 3),
        (3.0, "skipped", 3),
        (11.9, "skipped", 3),
        (12.1, "failed", 4),
        (13.0, "skipped", 4),
        (22.0, "skipped", 4),
        (22.2, "ok", 5),
        (22.3, "ok", 6),
    ]


def test_after_a_pause_one_request_tries_and_the_others_do_not_wait_for_it(online, monkeypatch):
    async def scenario():
        store = MemoryStore(online)
        store.down = True
        lookup = lookup_of(store, breaker=BreakerPolicy(failures=1, pause_s=10.0))
        clock = [0.0]
        monkeypatch.setattr("serving.features.lookup.time.monotonic", lambda: clock[0])
        await lookup.find({"user_id": ["ann"]}, deadline_s=PLENTY)
        clock[0] = 10.5
        store.down = False
        many = (lookup.find({"user_id": ["ann"]}, deadline_s=PLENTY) for _ in range(5))
        return sorted(str(found.outcome) for found in await asyncio.gather(*many))

    assert asyncio.run(scenario()) == ["ok", "skipped", "skipped", "skipped", "skipped"]


def test_every_default_of_a_skipped_read_is_counted_as_unreachable(online):
    registry = CollectorRegistry()
    store = MemoryStore(online)
    store.down = True

    async def scenario():
        lookup = lookup_of(store, registry=registry, breaker=BreakerPolicy(failures=1, pause_s=1000.0))
        for _ in range(4):
            await lookup.find({"ad_id": [7, 8]}, deadline_s=PLENTY)

    asyncio.run(scenario())
    assert counts(registry) == {(f, "unreachable"): 8 for f in CONTRACT.entities["ad_id"]}
    outcomes = {
        o: registry.get_sample_value("clickmill_feature_reads_total", {"outcome": o})
        for o in ("failed", "skipped")
    }
    assert outcomes == {"failed": 1, "skipped": 3}
