"""The model folder: versions rise, additions are atomic, what is broken is passed over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clickmill.bundle import manifest as manifests
from clickmill.bundle.store import Store
from clickmill.errors import BundleCorrupt, BundleError


def test_an_empty_or_absent_store_has_no_champion(tmp_path: Path):
    store = Store(tmp_path / "store")
    assert store.versions() == []
    assert store.latest() is None
    assert not (tmp_path / "store").exists()


def test_versions_rise_and_the_newest_is_the_champion(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    first, second = make_folder("a"), make_folder("b", extra=b"!")
    assert store.add(first) == 1
    assert store.add(second) == 2
    assert store.versions() == [1, 2]
    assert store.latest() == tmp_path / "store" / "2"
    assert manifests.verify(store.path(2)) == manifests.verify(second)
    assert [d.manifest.digest for d in store.lineage()] == [
        manifests.read(first).digest,
        manifests.read(second).digest,
    ]


def test_the_same_digest_again_changes_nothing(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    bundle = make_folder("a")
    assert [store.add(bundle), store.add(make_folder("b", extra=b"!")), store.add(bundle)] == [1, 2, 1]
    assert store.versions() == [1, 2]


def test_numbers_compare_as_numbers_and_other_names_are_no_versions(tmp_path: Path, make_folder):
    root = tmp_path / "store"
    store = Store(root)
    store.add(make_folder("a"))
    os.rename(root / "1", root / "9")
    assert store.add(make_folder("b", extra=b"!")) == 10
    for name in (".11.ab12cd34.partial", "12-old", "013", "v14", "²"):
        (root / name).mkdir()
    (root / "15").write_text("a file")
    assert store.versions() == [9, 10]
    assert store.latest() == root / "10"


def test_a_broken_newest_is_passed_over_and_logged(tmp_path: Path, make_folder, caplog):
    store = Store(tmp_path / "store")
    store.add(make_folder("a"))
    store.add(make_folder("b", extra=b"!"))
    assert store.latest() == store.path(2)
    (store.path(2) / "card.md").write_bytes(b"# toy?")
    assert store.latest() == store.path(1)
    assert "version 2 is passed over" in caplog.text
    assert "card.md: altered" in caplog.text


def test_a_broken_copy_is_deployed_again_as_a_new_version(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    bundle = make_folder("a")
    store.add(bundle)
    (store.path(1) / "card.md").unlink()
    assert store.add(bundle) == 2
    assert store.latest() == store.path(2)


def test_a_corrupt_bundle_never_enters(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    bundle = make_folder("a")
    (bundle / "model/1/saved_model.pb").write_bytes(b"")
    with pytest.raises(BundleCorrupt, match=r"saved_model\.pb: altered"):
        store.add(bundle)
    assert store.versions() == []


def test_an_unknown_version_names_the_known_ones(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    store.add(make_folder("a"))
    with pytest.raises(BundleError, match="has no version 5; it has: 1"):
        store.verified(5)


def test_an_unchanged_version_is_hashed_once(tmp_path: Path, make_folder, monkeypatch):
    store = Store(tmp_path / "store")
    store.add(make_folder("a"))
    hashed = []
    honest = manifests.verify
    monkeypatch.setattr(manifests, "verify", lambda folder: hashed.append(folder) or honest(folder))
    store.latest()
    store.latest()
    assert hashed == [store.path(1)]


def test_many_writers_at_once_lose_nothing(tmp_path: Path, make_folder):
    store_root = tmp_path / "store"
    bundles = [make_folder(f"b{i}", extra=str(i % 4).encode()) for i in range(8)]
    got: list[int] = []
    threads = [threading.Thread(target=lambda b=b: got.append(Store(store_root).add(b))) for b in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(store_root)
    assert store.versions() == [1, 2, 3, 4]  # eight bundles, four digests
    assert sorted(got) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {d.manifest.digest for d in store.lineage()} == {manifests.read(b).digest for b in bundles}
    assert not list(store_root.glob(".*.partial"))


CHILD = """
import sys, resource
from clickmill.bundle.store import Store
from clickmill.errors import BundleError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, 1 << 12))
try:
    Store(sys.argv[1]).add(sys.argv[2])
except BundleError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, make_folder):
    store = Store(tmp_path / "store")
    store.add(make_folder("a"))
    large = make_folder("b", extra=b"x" * 10_000)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(store.root), str(large)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "larger than the system allows" in done.stderr
    assert store.versions() == [1]
    assert not list(store.root.glob(".*.partial"))
