"""The router before real HTTP servers on loopback: shares, stickiness, shadows, and no request without an answer."""

import asyncio
import contextlib
from collections import Counter

import pytest
from aiohttp import ClientSession, web

from clickmill.release import Split
from serving.router.counts import Pairs
from serving.router.door import HEADER_ANSWERED_BY, HEADER_USER, Door, Ways
from tests.serving.router.listening import listening


class Server:
    """Stands for a bundle's server: says its name, and can be told to fail, hang or break connections."""

    def __init__(self, name):
        self.name, self.mood, self.asked, self.bodies = name, "well", 0, []
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self.answer)

    async def answer(self, request):
        self.asked += 1
        self.bodies.append(await request.read())
        if self.mood == "hangs":
            await asyncio.sleep(5)
        if self.mood == "breaks":
            request.transport.abort()
        if isinstance(self.mood, int):
            return web.json_response({"error": "x"}, status=self.mood, headers={"retry-after": "1"})
        return web.json_response({"name": self.name, "path": request.path_qs}, headers={"x-own": self.name})


@contextlib.asynccontextmanager
async def routed(split, **options):
    good, new = Server("good"), Server("new")
    async with contextlib.AsyncExitStack() as stack:
        urls = {s.name: await stack.enter_async_context(listening(s.app)) for s in (good, new)}
        door = Door(Ways(split, urls), **options)
        url = await stack.enter_async_context(listening(door.app))
        session = await stack.enter_async_context(ClientSession())
        yield door, good, new, url, session


async def post(session, url, user="", path="/v1/models/ctr:predict?a=b"):
    async with session.post(
        url + path, data=b'{"instances": []}', headers={HEADER_USER: user} if user else {}
    ) as r:
        return r.status, r.headers, await r.json()


HALF = Split(percent={"good": 50, "new": 50})
MOSTLY = Split(percent={"good": 80, "new": 20})


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_users_stay_and_answers_pass_through():
    async def body():
        async with routed(HALF) as (door, good, new, url, session):
            names = {}
            for user in [f"u{n}" for n in range(40)] * 2:
                status, headers, answer = await post(session, url, user)
                assert (status, answer["path"]) == (200, "/v1/models/ctr:predict?a=b")
                assert headers["x-own"] == headers[HEADER_ANSWERED_BY] == answer["name"]
                assert names.setdefault(user, answer["name"]) == answer["name"]
            assert 8 < Counter(names.values())["new"] < 32
            assert new.bodies[0] == b'{"instances": []}'
            counts = {bundle: traffic.live.requests for bundle, traffic in door.traffic.items()}
            assert counts == {"good": good.asked, "new": new.asked}

    run(body())


@pytest.mark.parametrize("mood", ["breaks", "hangs", 500])
def test_a_failing_canary_costs_no_request(mood):
    async def body():
        async with routed(MOSTLY, timeout_seconds=0.3) as (door, _good, new, url, session):
            new.mood = mood
            found = await asyncio.gather(*(post(session, url, f"u{n}") for n in range(60)))
            assert {(status, answer["name"]) for status, _, answer in found} == {(200, "good")}
            live = door.traffic["new"].live
            assert live.errors == live.requests > 0
            assert door.traffic["good"].live.requests == 60
            assert door.traffic["good"].live.errors == 0

    run(body())


@pytest.mark.parametrize(
    "split",
    [Split(percent={"new": 100}, warm=("good",), spare="good"), Split(percent={"new": 80, "good": 20})],
)
def test_a_bundle_with_most_of_the_traffic_is_covered_by_the_warm_or_the_smaller_one(split):
    async def body():
        async with routed(split) as (_, _, new, url, session):
            new.mood = "breaks"
            found = await asyncio.gather(*(post(session, url, f"u{n}") for n in range(40)))
            assert {(status, answer["name"]) for status, _, answer in found} == {(200, "good")}

    run(body())


def test_a_bundle_that_is_only_warm_answers_nobody():
    async def body():
        async with routed(Split(percent={"good": 100}, warm=("new",))) as (_, good, new, url, session):
            good.mood = "breaks"
            assert (await post(session, url, "u1"))[0] == 502
            assert new.asked == 0

    run(body())


def test_a_shed_is_an_answer_and_is_not_asked_again_elsewhere():
    async def body():
        async with routed(MOSTLY) as (door, good, new, url, session):
            new.mood = 503
            found = [await post(session, url, f"u{n}") for n in range(40)]
            shed = [headers for status, headers, _ in found if status == 503]
            assert len(shed) == new.asked > 0
            assert shed[0]["retry-after"] == "1"
            assert good.asked + new.asked == 40
            assert door.traffic["new"].live.errors == new.asked

    run(body())


WARM = Split(percent={"new": 100}, warm=("good",), spare="good", settled=True)


async def pairs_of(door, wanted):
    """Once so many are over."""
    while door.traffic["new"].paired.requests < wanted:
        await asyncio.sleep(0.01)
    return door.traffic["new"].paired


@pytest.mark.parametrize("mood", ["breaks", "hangs", 500])
def test_a_promoted_bundle_that_fails_is_told_from_the_warm_one_that_does_not(mood):
    async def body():
        async with routed(WARM, timeout_seconds=0.3, pair_seconds=0) as (door, good, new, url, session):
            new.mood = mood
            found = await asyncio.gather(*(post(session, url, f"u{n}") for n in range(20)))
            assert {(status, answer["name"]) for status, _, answer in found} == {(200, "good")}
            assert await pairs_of(door, 20) == Pairs(requests=20, only_serving=20)
            assert good.asked == 40, "each asked again, and each copied"
            assert door.traffic["good"].shadow.requests == 20

    run(body())


@pytest.mark.parametrize("mood", ["breaks", "hangs", 500])
def test_what_stops_both_is_neither_ones_failure(mood):
    async def body():
        async with routed(WARM, timeout_seconds=0.3, pair_seconds=0) as (door, good, new, url, session):
            good.mood = new.mood = mood
            await asyncio.gather(*(post(session, url, f"u{n}") for n in range(10)))
            assert await pairs_of(door, 10) == Pairs(requests=10)
            assert door.traffic["new"].live.errors == 10

    run(body())


def test_a_bundle_that_sheds_or_is_late_under_load_is_not_blamed_beside_an_idle_one():
    async def body():
        async with routed(WARM, timeout_seconds=0.3, pair_seconds=0) as (door, _good, new, url, session):
            new.mood = 503
            assert (await post(session, url))[0] == 503
            assert await pairs_of(door, 1) == Pairs(requests=1)
            # One request hangs while the server goes on to answer others: it is busy, and not gone.
            new.mood = "hangs"
            late = asyncio.create_task(post(session, url))
            while new.asked < 2:
                await asyncio.sleep(0.01)
            new.mood = "well"
            while not late.done():
                assert (await post(session, url))[2]["name"] == "new"
            assert (await late)[2]["name"] == "good"
            paired = await pairs_of(door, new.asked)
            assert (paired.only_serving, paired.only_spare) == (0, 0)
            assert door.traffic["new"].live.errors == 2

    run(body())


def test_the_warm_bundle_gets_a_copy_now_and_then_only_and_none_while_a_candidate_is_under_way():
    async def body():
        async with routed(WARM, pair_seconds=3_600) as (door, good, _new, url, session):
            for _ in range(30):
                await post(session, url)
            await pairs_of(door, 1)
            assert good.asked == 1
        split = WARM.model_copy(update={"settled": False})
        async with routed(split, pair_seconds=0) as (_, good, new, url, session):
            for _ in range(10):
                await post(session, url)
            assert (good.asked, new.asked) == (0, 10)

    run(body())


def test_when_all_fail_it_says_so():
    async def body():
        async with routed(MOSTLY) as (_door, good, new, url, session):
            good.mood = new.mood = "breaks"
            status, _, answer = await post(session, url, "u1")
            assert status == 502
            assert "no server answered" in answer["error"]

    run(body())


def test_a_shadow_hears_everything_and_nobody_waits_for_it():
    async def body():
        split = Split(percent={"good": 100}, shadow="new")
        async with routed(split, timeout_seconds=5, shadows=10) as (door, _good, new, url, session):
            found = [await post(session, url) for _ in range(20)]
            assert all(answer["name"] == "good" for _, _, answer in found)
            while door.traffic["new"].shadow.requests < 20:
                await asyncio.sleep(0.01)
            assert new.asked == 20
            new.mood = "hangs"
            start = asyncio.get_running_loop().time()
            await asyncio.gather(*(post(session, url) for _ in range(50)))
            assert asyncio.get_running_loop().time() - start < 4
            assert door.traffic["new"].dropped == 40
            assert door.traffic["good"].live.errors == 0

    run(body())


def test_a_turn_under_load_loses_nothing():
    async def body():
        async with routed(Split(percent={"good": 100})) as (door, _good, _new, url, session):

            async def caller(n):
                return [await post(session, url, f"u{n}-{i}") for i in range(25)]

            async def turns():
                for percent in (5, 25, 50, 75, 0):
                    await asyncio.sleep(0.05)
                    shares = {"good": 100 - percent, "new": percent} if percent else {"good": 100}
                    door.turn(Ways(Split(percent=shares), door.ways.urls))

            *found, _ = await asyncio.gather(*(caller(n) for n in range(8)), turns())
            statuses = Counter(status for answers in found for status, _, _ in answers)
            assert statuses == {200: 200}
            assert (await post(session, url, "u"))[2]["name"] == "good"

    run(body())
