"""One cluster for all tests that need a node: the one that `make cluster-up` left running, or one brought up and taken down here."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest

from tests.cluster.api_server import ApiServer, api_server, missing
from tests.cluster.bringup import Places, down, leftovers, obstacle, places, up


@pytest.fixture(scope="session")
def node() -> Iterator[Places]:
    """A node that is Ready, with KServe and metrics-server. Skips, and says why, where it cannot be."""
    at = places()
    reason = obstacle(at)
    if reason:
        pytest.skip(reason)
    if at.up.exists():
        yield at
        return
    at.cache.mkdir(parents=True, exist_ok=True)
    with (at.cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            up(at)
            yield at
        finally:
            down(at)
    assert leftovers(at) == []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without a node, for tests of the operator. Skips, and says why, where it cannot be."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with api_server(tmp_path_factory.mktemp("api")) as found:
        yield found
