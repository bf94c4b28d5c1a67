"""A Redis for all tests of the folder that only need one to be there; those that hurt it start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.features.redis_process import RedisProcess, running_redis


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["file", "redis"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty store of either kind."""
    if request.param == "file":
        return str(tmp_path / "store" / "shop.features")
    running: RedisProcess = request.getfixturevalue("redis")
    running.client().flushall()
    return running.url
