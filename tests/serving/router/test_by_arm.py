"""At the door of an experiment every user gets the bundle of their arm, and is counted there whoever answered."""

import asyncio
import contextlib
from datetime import UTC, datetime

import orjson
import pytest
from aiohttp import ClientSession

from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec, assign
from serving.router import ByArm
from serving.router.by_arm import bundles_of, split_of
from serving.router.door import HEADER_ANSWERED_BY, Door, Ways
from tests.serving.router.test_door import Server, listening

NOW = datetime(2026, 3, 3, tzinfo=UTC)
USERS = [f"u{number}" for number in range(60)]


def spec(**changed):
    given = {
        "name": "deeper",
        "arms": {"control": {"bundle": "good"}, "treatment": {"bundle": "new"}},
        "control": "control",
        "start": "2026-03-02T00:00:00Z",
    }
    return ExperimentSpec.model_validate(given | changed)


def same(name):
    return name


BUNDLES = {"control": "good", "treatment": "new"}


def ranking(user):
    return orjson.dumps({"user": {"user_id": user}, "candidates": []})


@contextlib.asynccontextmanager
async def door_of(chosen, bundles=BUNDLES):
    good, new = Server("good"), Server("new")
    async with contextlib.AsyncExitStack() as stack:
        urls = {s.name: await stack.enter_async_context(listening(s.app)) for s in (good, new)}
        door = Door(Ways(split_of(chosen, bundles), urls), chooser=ByArm(chosen, bundles, lambda: NOW))
        url = await stack.enter_async_context(listening(door.app))
        yield new, url, await stack.enter_async_context(ClientSession())


async def asked(session, url, user):
    async with session.post(f"{url}/v1/models/m:rank", data=ranking(user)) as answer:
        assert answer.status == 200
        return answer.headers[HEADER_ANSWERED_BY]


def test_every_user_gets_the_bundle_of_their_arm_again_and_again():
    async def body():
        async with door_of(spec()) as (_, url, session):
            for user in USERS * 2:
                assert await asked(session, url, user) == BUNDLES[assign(spec(), user).arm]

    asyncio.run(asyncio.wait_for(body(), 60))


def test_a_bundle_that_breaks_costs_no_request_and_its_users_come_back():
    async def body():
        async with door_of(spec()) as (new, url, session):
            new.mood = "breaks"
            assert {await asked(session, url, user) for user in USERS} == {"good"}
            new.mood = "well"
            assert {await asked(session, url, user) for user in USERS} == {"good", "new"}

    asyncio.run(asyncio.wait_for(body(), 60))


def test_the_body_names_the_user_before_the_header_and_without_either_the_control_answers():
    chosen = spec()
    split, by_arm = split_of(chosen, BUNDLES), ByArm(chosen, BUNDLES, lambda: NOW)
    treated = next(user for user in USERS if assign(chosen, user).arm == "treatment")
    other = next(user for user in USERS if assign(chosen, user).arm == "control")
    assert by_arm(split, other, ranking(treated)) == "new"
    assert by_arm(split, treated, b'{"instances": []}') == "new"
    assert by_arm(split, treated, b"\x00 no JSON") == "new"
    assert by_arm(split, None, b'{"instances": []}') == "good"


def test_before_the_start_and_outside_of_the_ramp_the_control_answers():
    split = split_of(spec(), BUNDLES)
    early = ByArm(spec(), BUNDLES, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    assert {early(split, user, b"") for user in USERS} == {"good"}
    ramped = ByArm(spec(ramp=0.5), BUNDLES, lambda: NOW)
    for user in USERS:
        arm = assign(spec(ramp=0.5), user).arm
        assert ramped(split, user, b"") == ("good" if arm is None else BUNDLES[arm])


def test_the_holdout_has_a_bundle_of_its_own():
    chosen = spec(holdout=0.4, holdout_gets={"bundle": "old"})
    bundles = bundles_of(chosen, same, "newest")
    assert bundles == {"control": "good", "treatment": "new", "holdout": "old"}
    by_arm = ByArm(chosen, bundles, lambda: NOW)
    split = split_of(chosen, bundles)
    for user in USERS:
        assert by_arm(split, user, b"") == bundles[assign(chosen, user).logged]
    assert split.percent == {"good": 30, "new": 30, "old": 40}


def test_who_names_no_bundle_gets_the_controls_and_a_control_without_one_the_newest():
    assert bundles_of(spec(arms={"control": {}, "treatment": {"bundle": "new"}}), same, "newest") == {
        "control": "newest",
        "treatment": "new",
    }
    assert bundles_of(spec(arms={"control": {"bundle": "good"}, "treatment": {}}), same, "newest") == {
        "control": "good",
        "treatment": "good",
    }


def test_a_bundle_that_is_not_there_is_refused():
    def find(named):
        raise UsageError(f"bundle {named!r}: no such bundle")

    with pytest.raises(UsageError, match="bundle 'good': no such bundle"):
        bundles_of(spec(), find, "newest")


def test_what_other_bundles_do_not_get_is_the_controls():
    assert split_of(spec(ramp=0.1), BUNDLES).percent == {"good": 95, "new": 5}
    assert split_of(spec(ramp=0.0), BUNDLES).percent == {"good": 99, "new": 1}
    aa = {"control": "good", "treatment": "good"}
    assert split_of(spec(), aa).percent == {"good": 100}
