"""Small folders that carry a true manifest, for tests that need no model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clickmill.bundle import manifest as manifests
from clickmill.bundle.manifest import Lineage, Manifest, ModelFacts, SplitFacts

FILES = {
    "contract.yaml": b"name: toy\n",
    "model/1/saved_model.pb": bytes(range(256)),
    "model/1/variables/variables.index": b"",
    "plots/roc.svg": b"<svg/>",
}


def write_manifest(folder: Path, created: datetime = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)) -> Manifest:
    files = manifests.take_stock(folder)
    day = datetime(2026, 11, 1, tzinfo=UTC)
    manifest = Manifest(
        name="toy",
        created=created,
        digest=manifests.digest_of(files),
        files=files,
        model=ModelFacts(name="lr", config={"l2": 0.1}, training={"epochs": 1}),
        lineage=Lineage(
            data_digest="d" * 64,
            contract_digest="c" * 64,
            parent=None,
            code_version="0.1.0",
            seed=7,
            negatives_kept=0.5,
            positive_weight=1.0,
            splits={"test": SplitFacts(start=day, end=day, rows=10, clicks=1)},
        ),
        versions={"python": "3.11", "tensorflow": "2.21", "keras": "3.15", "numpy": "2.4"},
        metrics={"auc": 0.8, "gauc": None},
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a few files and a true manifest; `extra` makes its digest another one."""

    def make(name: str = "bundle", extra: bytes = b"") -> Path:
        folder = tmp_path / name
        for path, content in {**FILES, "card.md": b"# toy" + extra}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        write_manifest(folder)
        return folder

    return make
