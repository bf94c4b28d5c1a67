"""Items made ahead: the same ones, in order, with their errors, and no thread left behind."""

import threading
import time
from contextlib import closing

import pytest

from clickmill.training.ahead import ahead


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_items_come_in_order_from_another_thread():
    makers = set()

    def items():
        for number in range(50):
            makers.add(threading.current_thread())
            yield number

    assert list(ahead(items())) == list(range(50))
    assert threading.main_thread() not in makers
    assert not _threads()


def test_the_next_item_is_made_while_this_one_is_worked_on_but_not_more_than_depth():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    with closing(ahead(items(), depth=3)) as ready:
        next(ready)
        deadline = time.monotonic() + 10
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 5  # the one given out, three that wait, one in hand
    assert not _threads()


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        raise ValueError("the second is broken")

    ready = ahead(items())
    assert next(ready) == 1
    with pytest.raises(ValueError, match="the second is broken"):
        next(ready)
    assert not _threads()


def test_who_stops_early_leaves_no_thread():
    with closing(ahead(iter(range(1_000_000)))) as ready:
        assert next(ready) == 0
        assert _threads()
    assert not _threads()
