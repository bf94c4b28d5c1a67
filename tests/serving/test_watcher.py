"""What the watcher serves, refuses, remembers and goes back to; folders are real, loading is a table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import BundleCorrupt, GoldenMismatch
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.refusals import NotReady
from serving.watcher import BundleFolder, Loaded, StoreFolder, Watcher, source_at, stamp_of
from tests.serving.small_bundle import CONTRACT


class Told:
    """A scorer that answers what its folder says, and remembers the sizes it was asked for."""

    ranks = True

    def __init__(self, text: str, contract: Any = CONTRACT) -> None:
        self.digest = text.ljust(64, "0")
        self.contract = contract
        self.sizes: list[int] = []
        self.ranked: list[int] = []

    def rank(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.ranked.append(len(raw["ad_id"]))
        return {}

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        n = len(raw["ad_id"])
        self.sizes.append(n)
        return {"pctr": np.full(n, 0.1, np.float32), "logit": np.zeros(n, np.float32)}


class Shelf:
    """A store folder whose bundles are one text file each, and the loader that reads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loads: list[str] = []
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", metrics=Metrics(self.registry))
        self.watcher = Watcher(self.model, StoreFolder(root), load=self.load)

    def put(self, version: int, text: str) -> None:
        folder = self.root / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        # a file renamed into place, so that its inode differs however coarse the clock of the disk
        temp = folder / "text.partial"
        temp.write_text(text)
        os.replace(temp, folder / "text")

    def load(self, path: Path) -> Loaded:
        text = (path / "text").read_text()
        self.loads.append(text)
        if text == "corrupt":
            raise BundleCorrupt("variables: altered")
        if text == "golden":
            raise GoldenMismatch("row 3 moved")
        if text == "crash":
            raise ZeroDivisionError("inside TensorFlow")
        contract = CONTRACT.model_copy(update={"name": "other"}) if text == "other" else CONTRACT
        return Loaded(Told(text, contract), {"ad_id": np.array([b"a1", b"a2"], object)})

    @property
    def served(self) -> str:
        return self.model.in_service.scorer.digest.rstrip("0")

    def refusals(self, reason: str) -> float:
        labels = {"model_name": "small", "reason": reason}
        return self.registry.get_sample_value("clickmill_bundle_refused_total", labels) or 0.0


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "store")


def test_the_newest_version_is_served_under_its_number_and_loaded_once(shelf):
    shelf.put(9, "nine")
    shelf.put(10, "ten")
    assert shelf.watcher.look()
    assert (shelf.served, shelf.model.in_service.version) == ("ten", "10")
    assert not shelf.watcher.look()
    assert shelf.loads == ["ten"]


def test_a_bundle_is_warm_in_every_shape_before_it_serves(shelf):
    shelf.put(1, "one")
    shelf.watcher.look()
    assert sorted(set(shelf.model.in_service.scorer.sizes)) == [1, 8, 32, 256]
    assert sorted(set(shelf.model.in_service.scorer.ranked)) == [1, 8, 32, 256]


def test_an_empty_store_is_waited_for(shelf):
    assert not shelf.watcher.look()
    with pytest.raises(NotReady, match="still being loaded"):
        _ = shelf.model.in_service
    shelf.put(1, "one")
    assert shelf.watcher.look()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("corrupt", "corrupt"), ("golden", "golden"), ("crash", "error"), ("other", "unusable")],
)
def test_a_failing_bundle_is_refused_once_and_the_old_one_goes_on(shelf, text, reason, caplog):
    shelf.put(1, "one")
    shelf.watcher.look()
    shelf.put(2, text)
    for _ in range(3):
        assert not shelf.watcher.look()
    assert shelf.served == "one"
    assert shelf.loads == ["one", text]
    assert shelf.refusals(reason) == 1
    assert f"refused bundle {shelf.root / '2'} ({reason}), the bundle in service goes on" in caplog.text


def test_a_refused_bundle_gets_another_chance_when_its_files_change(shelf):
    shelf.put(1, "one")
    shelf.put(2, "corrupt")
    shelf.watcher.look()
    assert shelf.served == "one"
    shelf.put(2, "mended")
    assert shelf.watcher.look()
    assert (shelf.served, shelf.model.in_service.version) == ("mended", "2")


def test_at_the_start_the_newest_version_that_passes_is_served(shelf):
    shelf.put(1, "one")
    shelf.put(2, "golden")
    shelf.put(3, "corrupt")
    assert shelf.watcher.look()
    assert shelf.served == "one"
    assert shelf.loads == ["corrupt", "golden", "one"]


def test_removing_a_version_goes_back_to_the_one_before(shelf):
    shelf.put(1, "one")
    shelf.put(2, "two")
    shelf.watcher.look()
    shutil.rmtree(shelf.root / "2")
    assert shelf.watcher.look()
    assert shelf.served == "one"


def test_a_store_that_vanishes_keeps_what_serves(shelf):
    shelf.put(1, "one")
    shelf.watcher.look()
    shutil.rmtree(shelf.root)
    assert not shelf.watcher.look()
    assert shelf.served == "one"


def test_the_info_metric_names_one_bundle_only(shelf):
    for version, text in ((1, "one"), (2, "two")):
        shelf.put(version, text)
        shelf.watcher.look()

    def info(text: str, version: str) -> float | None:
        labels = {"model_name": "small", "digest": text.ljust(64, "0"), "version": version}
        return shelf.registry.get_sample_value("clickmill_bundle_info", labels)

    assert (info("one", "1"), info("two", "2")) == (None, 1)
    reloads = shelf.registry.get_sample_value("clickmill_bundle_reloads_total", {"model_name": "small"})
    assert reloads == 2


def test_a_folder_with_a_manifest_is_a_bundle_and_any_other_a_store(tmp_path):
    assert source_at(tmp_path) == StoreFolder(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert source_at(tmp_path) == BundleFolder(tmp_path)


def test_a_bundle_folder_is_loaded_again_when_its_files_change(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.put(5, "first")
    watcher = Watcher(shelf.model, BundleFolder(tmp_path / "5"), load=shelf.load)
    assert watcher.look()
    assert shelf.model.in_service.version == "first0000000"
    assert not watcher.look()
    shelf.put(5, "second")
    assert watcher.look()
    assert shelf.served == "second"


def test_the_stamp_of_a_folder_changes_with_any_file(tmp_path):
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "weights"
    file.write_bytes(b"abc")
    before = stamp_of(tmp_path)
    assert stamp_of(tmp_path) == before
    os.utime(file, ns=(1, 1))
    assert stamp_of(tmp_path) != before


def test_a_request_ends_on_the_bundle_it_began_on(shelf):
    """The swap comes while the first request is inside the graph."""
    shelf.put(1, "one")
    shelf.watcher.look()
    first = shelf.model.in_service.scorer
    plain = first.predict

    def swapping(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        first.predict = plain
        shelf.put(2, "two")
        assert shelf.watcher.look()
        return plain(raw)

    first.predict = swapping
    body = b'{"instances": [{"ad_id": "a1"}]}'
    assert shelf.model.answer(shelf.model.ask_v1(body)).headers["x-clickmill-version"] == "1"
    assert shelf.model.answer(shelf.model.ask_v1(body)).headers["x-clickmill-version"] == "2"
