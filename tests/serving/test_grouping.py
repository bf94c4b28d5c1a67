"""The queue of micro-batching, by laws over any arrivals: nobody is lost, nobody overtakes, nobody waits in vain."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serving.grouping import Grouping

MOST = 10
WAIT = 5.0


@dataclass(frozen=True)
class Asked:
    number: int
    key: str
    rows: int
    at: float


@st.composite
def arrivals(draw: st.DrawFn) -> list[Asked]:
    count = draw(st.integers(0, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 1.0, 6.0]), min_size=count, max_size=count))
    keys = draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    rows = draw(st.lists(st.integers(1, 14), min_size=count, max_size=count))
    return [Asked(i, keys[i], rows[i], sum(gaps[: i + 1])) for i in range(count)]


def filled(asked: list[Asked]) -> Grouping[Asked]:
    grouping: Grouping[Asked] = Grouping(MOST, WAIT)
    for one in asked:
        grouping.add(one, one.key, one.rows, one.at)
    return grouping


def drained(grouping: Grouping[Asked], now: float) -> list[list[Asked]]:
    groups = []
    while group := grouping.take(now):
        groups.append(group)
    return groups


@given(arrivals())
def test_late_enough_everybody_is_in_one_group_and_in_order_within_its_key(asked):
    groups = drained(filled(asked), now=1e9)
    assert sorted(one.number for group in groups for one in group) == list(range(len(asked)))
    for key in "ab":
        order = [one.number for group in groups for one in group if one.key == key]
        assert order == sorted(order)


@given(arrivals(), st.floats(0, 200))
def test_a_group_is_of_one_key_and_within_the_rows_unless_it_is_one_request(asked, now):
    for group in drained(filled(asked), now):
        assert len({one.key for one in group}) == 1
        assert len(group) == 1 or sum(one.rows for one in group) <= MOST


@given(arrivals(), st.floats(0, 200))
def test_who_is_left_has_not_waited_its_time_and_would_not_fill_a_group(asked, now):
    grouping = filled(asked)
    taken = {one.number for group in drained(grouping, now) for one in group}
    left = [one for one in asked if one.number not in taken]
    assert len(grouping) == len(left)
    if left:
        assert now < left[0].at + WAIT == grouping.due()
        assert sum(one.rows for one in left if one.key == left[0].key) < MOST


@given(arrivals())
def test_a_group_takes_all_that_fit_behind_its_head(asked):
    """One more of the same key would not have fitted, or there was none."""
    queue = list(asked)
    for group in drained(filled(asked), now=1e9):
        same = [one for one in queue if one.key == group[0].key]
        assert same[: len(group)] == group
        following = same[len(group) :]
        assert not following or sum(one.rows for one in group) + following[0].rows > MOST
        queue = [one for one in queue if one not in group]


def test_a_full_group_goes_at_once_and_one_that_is_not_waits_for_its_time():
    grouping: Grouping[str] = Grouping(MOST, WAIT)
    grouping.add("a", "k", 4, now=0.0)
    assert grouping.take(4.9) == []
    grouping.add("b", "k", 6, now=4.9)
    assert grouping.take(4.9) == ["a", "b"]
    assert (grouping.take(4.9), grouping.due()) == ([], None)


def test_without_a_wait_whoever_is_there_goes():
    grouping: Grouping[str] = Grouping(MOST, 0.0)
    grouping.add("a", "k", 1, now=3.0)
    assert grouping.take(3.0) == ["a"]
