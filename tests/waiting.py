"""Waiting for what a running process will do. A busy machine stalls for seconds, so a test waits for the thing itself and never asserts that
it came soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    told: Callable[[], object] = lambda: "",
    *,
    seconds: float = 300.0,
    every: float = 0.05,
) -> T:
    """What `condition` gives, as soon as that is true. Fails after `seconds`, with what `told()` says then."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen within {seconds:g} s: {told()}"
        time.sleep(every)
    return found
