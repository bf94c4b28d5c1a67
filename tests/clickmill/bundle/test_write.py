"""A bundle is written whole or not at all, and says where it came from."""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from clickmill import bundle as bundles
from clickmill.bundle import code_version as versions
from clickmill.bundle import manifest as manifests
from clickmill.calibration import Calibration
from clickmill.contract import load as load_contract
from clickmill.contract import loads
from clickmill.data import PreparedDataset
from clickmill.errors import BundleError, UsageError


@pytest.fixture
def rewrite(bundle, trained, dataset):
    """Write the same bundle again, elsewhere or otherwise."""

    def write(out: Path, **changes):
        parts = {"calibration": bundle.calibration, "evaluation": bundle.evaluation, "dataset": dataset}
        options = {"report": bundle.calibration_report, "plots": {}}
        parts |= {key: changes.pop(key) for key in list(changes) if key in parts}
        return bundles.write(out, trained, *parts.values(), **{**options, **changes})

    return write


def test_the_folder_holds_what_the_format_says_and_verifies(bundle):
    files = set(bundles.verify(bundle.path).files)
    assert {
        "contract.yaml",
        "calibration.json",
        "calibration_report.json",
        "metrics.json",
        "history.json",
        "golden.parquet",
        "priors.parquet",
        "reference.parquet",
        "card.md",
        "card.html",
        "plots/reliability.svg",
        "plots/roc.svg",
        "plots/lift.svg",
        "plots/learning.svg",
        "training/model.json",
        "training/space/space.json",
        "training/weights/000.npy",
        "model/1/saved_model.pb",
        "model/1/variables/variables.index",
        "model/1/assets.extra/tf_serving_warmup_requests",
    } <= files
    assert any(f.startswith("model/1/assets/") and "ad_id" in f for f in files)
    assert [p.name for p in (bundle.path / "model").iterdir()] == ["1"], "model/ is a base path of TF Serving"
    assert [p.name for p in bundle.path.parent.iterdir()] == ["bundle"], "no temp folder is left"


def test_the_manifest_tells_the_lineage(bundle, dataset):
    manifest = bundle.manifest
    lineage = manifest.lineage
    assert manifest.name == "toy-market"
    assert manifest.created == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert manifest.model.name == "dcn_v2"
    assert manifest.model.config["units"] == [8]
    assert manifest.model.training["positive_weight"] == 3.0
    assert lineage.parent == "a" * 64
    assert (lineage.training, lineage.started_from) == (bundle.trained().meta["identity"], None)
    assert (
        lineage.contract_digest
        == dataset.contract.digest
        == load_contract(bundle.path / "contract.yaml").digest
    )
    assert lineage.data_digest == dataset.meta.data_digest
    assert (lineage.negatives_kept, lineage.positive_weight, lineage.seed) == (0.5, 3.0, 0)
    assert set(manifest.versions) == {"python", "tensorflow", "keras", "numpy"}
    assert manifest.metrics["auc"] == bundle.evaluation.auc.value
    for name, split in lineage.splits.items():
        times = dataset.columns(name, ["shown_at", "label"]).to_pandas()
        assert (split.rows, split.clicks) == (len(times), int(times["label"].sum()))
        assert (split.start, split.end) == (times["shown_at"].min(), times["shown_at"].max())


def test_nothing_is_ever_overwritten(rewrite, bundle, tmp_path):
    with pytest.raises(BundleError, match="exists already; bundles are never overwritten"):
        rewrite(bundle.path)
    other = tmp_path / "notes"
    other.mkdir()
    (other / "mine.txt").write_text("keep me")
    with pytest.raises(BundleError, match="exists already"):
        rewrite(other)
    assert (other / "mine.txt").read_text() == "keep me"


def test_the_time_is_an_argument_and_becomes_utc(rewrite, tmp_path):
    noon_in_delhi = datetime(2026, 1, 2, 12, 0, tzinfo=timezone(timedelta(hours=5.5)))
    written = rewrite(tmp_path / "b", created=noon_in_delhi)
    assert (written.path / "manifest.json").read_text().count('"created": "2026-01-02T06:30:00Z"') == 1


def test_ctrl_c_in_the_middle_leaves_nothing(rewrite, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        assert [p.suffix for p in tmp_path.iterdir()] == [".partial"], "the graph was being written"
        raise KeyboardInterrupt

    monkeypatch.setattr("clickmill.bundle.card.render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rewrite(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_is_not_the_model_is_not_written(rewrite, tmp_path, monkeypatch):
    honest = bundles.write.__globals__["export"]

    def careless(trained, calibration, folder):
        honest(trained, Calibration(), folder)  # forgets the prior and the calibrator

    monkeypatch.setitem(bundles.write.__globals__, "export", careless)
    with pytest.raises(
        BundleError, match=r"the exported graph answers .* where the trained model with its calibration"
    ):
        rewrite(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_another_contract_is_refused(rewrite, dataset, tmp_path):
    text = (dataset.root / "contract.yaml").read_text()
    other = dataclasses.replace(dataset, contract=loads(text.replace("max_length: 3", "max_length: 4")))
    assert isinstance(other, PreparedDataset)
    with pytest.raises(UsageError, match="the model was trained by contract"):
        rewrite(tmp_path / "b", dataset=other)


@contextmanager
def small_disk(where: Path, size: int) -> Iterator[Path]:
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "clickmill-test", str(where)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip(
            "a small disk of its own takes the right to mount; the test with a file-size limit runs anyway"
        )
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_a_full_disk_leaves_no_half_bundle_and_says_so(rewrite, bundle, tmp_path, share):
    whole = sum(entry.bytes for entry in bundle.manifest.files.values())
    with small_disk(tmp_path / "disk", int(whole * share)) as disk:
        with pytest.raises(BundleError, match="no space left on the device") as caught:
            rewrite(disk / "bundle", plots=None)
        assert list(disk.iterdir()) == []
    assert "Nothing half was left behind. Free some space" in str(caught.value)
    assert caught.value.__cause__ is not None, "the system's own error is kept"


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_file_that_may_not_grow_leaves_no_half_bundle_and_says_so(rewrite, tmp_path, limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(BundleError, match="larger than the system allows"):
            rewrite(tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_the_same_parts_give_the_same_files_but_for_the_graphs(rewrite, bundle, tmp_path):
    written = rewrite(
        tmp_path / "b", plots=None, created=bundle.manifest.created, parent=bundle.manifest.lineage.parent
    )
    same = {p for p, e in bundle.manifest.files.items() if written.manifest.files.get(p) == e}
    assert set(bundle.manifest.files) == set(written.manifest.files)
    graphs = {"model/1/saved_model.pb", "model/1/fingerprint.pb", "twin.onnx", "twin_ranking.onnx"}
    assert set(bundle.manifest.files) - same <= graphs
    assert manifests.verify(written.path).digest == written.digest


def test_the_code_version_carries_the_commit_an_image_was_built_from(monkeypatch):
    monkeypatch.setenv("CLICKMILL_COMMIT", "0123456789abcdef")
    assert versions.code_version() == f"{versions.__version__}+g0123456789ab"


def test_the_code_version_of_a_checkout_is_that_of_git(monkeypatch):
    monkeypatch.delenv("CLICKMILL_COMMIT", raising=False)
    root = Path(versions.__file__).parents[2]
    if not (root / ".git").exists():
        assert versions.code_version() == versions.__version__
        return
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    commit = versions.code_version().removeprefix(f"{versions.__version__}+g").removesuffix(".dirty")
    assert head.stdout.startswith(commit)
    assert len(commit) >= 12
