"""What tests of running endpoints serve: exporting a bundle takes seconds, so it is written once for all of them. Copy one before changing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clickmill.bundle import Store
from tests.serving.small_bundle import BIASES, write_small_bundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bundles that differ in the bias of their formula (`BIASES`), so that an answer says which one gave it."""
    root = tmp_path_factory.mktemp("bundles")
    return [write_small_bundle(root / f"bias{bias}", bias=bias) for bias in BIASES]


@pytest.fixture(scope="module")
def store(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of the module's own that holds the first bundle as version 1."""
    store = Store(tmp_path_factory.mktemp("served") / "store")
    store.add(bundles[0])
    return store
