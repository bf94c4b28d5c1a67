"""One small bundle for all tests of the room: exporting it takes seconds, reading it none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engines import load_verified
from tests.serving.small_bundle import write_small_bundle


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="session")
def small_scorer(small_bundle: Path):
    return load_verified(small_bundle).scorer


@pytest.fixture(scope="module", autouse=True)
def quiet_collector() -> Iterator[None]:
    """The watcher collects garbage after a swap; as in the server, it need not walk what was imported."""
    gc.freeze()
    yield
    gc.unfreeze()
