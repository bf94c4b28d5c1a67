"""What is scored on the event loop leaves the loop time for everybody else."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from serving.lanes import SMALL_BYTES, Lanes


def scored(count: int, seconds: float) -> tuple[list[int], list[int]]:
    """`count` small requests at once, each of `seconds`: the order they were scored in, and how many of them had been at each turn of the loop."""
    order: list[int] = []
    turns: list[int] = []

    def score(number: int) -> None:
        time.sleep(seconds)
        order.append(number)

    async def scenario() -> None:
        lanes = Lanes(0)

        async def look() -> None:
            while len(order) < count:
                turns.append(len(order))
                await asyncio.sleep(0)

        await asyncio.gather(*(lanes.run(1, score, number) for number in range(count)), look())
        lanes.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    return order, turns


def test_the_loop_looks_around_after_every_request_that_takes_its_time():
    order, turns = scored(20, seconds=0.005)
    assert order == list(range(20)), "who comes first is scored first"
    assert sorted(set(turns)) == list(range(1, 20)), "no turn scores two"


def test_requests_that_take_next_to_nothing_share_a_turn():
    order, turns = scored(2000, seconds=0.0)
    assert order == list(range(2000))
    assert len(set(turns)) < 1000


def test_one_that_has_gone_is_not_scored_and_holds_up_nobody():
    done: list[str] = []

    def score(name: str) -> None:
        time.sleep(0.002)
        done.append(name)

    async def scenario() -> None:
        lanes = Lanes(0)
        tasks = {name: asyncio.create_task(lanes.run(SMALL_BYTES, score, name)) for name in "abcd"}
        await asyncio.sleep(0)  # a is scored, the others wait
        tasks["b"].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await asyncio.wait_for(lanes.run(1, score, "later"), 10)

    asyncio.run(scenario())
    assert done == ["a", "c", "d", "later"]


def test_a_request_that_fails_uses_its_turn_up_and_says_so():
    async def scenario() -> int:
        lanes = Lanes(0)
        with pytest.raises(ZeroDivisionError):
            await lanes.run(1, lambda: 1 // 0)
        return await asyncio.wait_for(lanes.run(1, lambda: 7), 10)

    assert asyncio.run(scenario()) == 7
