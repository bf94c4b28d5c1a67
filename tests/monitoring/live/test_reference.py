"""What a bundle was on its test data is read from its manifest, and shown beside live quality."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from clickmill.bundle import Lineage, Manifest, ModelFacts, Store
from clickmill.bundle import manifest as manifests
from clickmill.command.app import app
from clickmill.errors import BundleError
from monitoring.live import ReferenceCollector, references
from tests.monitoring.live import logs

MADE = datetime(2026, 11, 20, 6, tzinfo=UTC)
FIGURES = {"normalized_entropy": 0.82, "click_rate": 0.02, "calibration_ratio": 1.05}


def write_bundle(folder, metrics=FIGURES, text="weights"):
    """A bundle as far as its manifest: nothing in it can be served."""
    folder.mkdir(parents=True)
    (folder / "weights").write_text(text)
    files = manifests.take_stock(folder)
    manifest = Manifest(
        name="ads",
        created=MADE,
        digest=manifests.digest_of(files),
        files=files,
        model=ModelFacts(name="lr", config={}, training={}),
        lineage=Lineage(
            data_digest="0" * 64,
            contract_digest="0" * 64,
            parent=None,
            code_version="0",
            seed=0,
            negatives_kept=1.0,
            positive_weight=1.0,
            splits={},
        ),
        versions={},
        metrics=metrics,
    )
    (folder / manifests.MANIFEST).write_bytes(manifest.to_bytes())
    return manifest.digest


def scraped(path):
    registry = CollectorRegistry()
    registry.register(ReferenceCollector(path))
    return shown(registry)


def shown(registry):
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in (line.split(" ") for line in lines)}


def test_each_bundle_of_a_store_shows_its_own_figures(tmp_path):
    first = write_bundle(tmp_path / "one")
    second = write_bundle(tmp_path / "two", {"normalized_entropy": 0.8}, "others")
    store = Store(tmp_path / "store")
    assert [store.add(tmp_path / name) for name in ("one", "two")] == [1, 2]
    assert scraped(store.root) == {
        f'clickmill_bundle_normalized_entropy{{bundle="{first[:12]}"}}': 0.82,
        f'clickmill_bundle_normalized_entropy{{bundle="{second[:12]}"}}': 0.8,
        f'clickmill_bundle_pctr_mean{{bundle="{first[:12]}"}}': pytest.approx(0.021),
        f'clickmill_bundle_created_timestamp_seconds{{bundle="{first[:12]}"}}': MADE.timestamp(),
        f'clickmill_bundle_created_timestamp_seconds{{bundle="{second[:12]}"}}': MADE.timestamp(),
    }


def test_a_bundle_by_itself_and_one_that_is_deployed_while_it_runs(tmp_path):
    digest = write_bundle(tmp_path / "one")
    [found] = references(tmp_path / "one")
    assert (found.digest, found.normalized_entropy, found.created) == (digest, 0.82, MADE)
    assert found.mean_pctr == pytest.approx(0.021)
    store = Store(tmp_path / "store")
    store.root.mkdir()
    registry = CollectorRegistry()
    registry.register(ReferenceCollector(store.root))
    assert shown(registry) == {}
    store.add(tmp_path / "one")
    assert len(shown(registry)) == 3
    shutil.rmtree(store.root / "1")
    assert shown(registry) == {}


def test_a_digest_that_is_in_the_store_twice_is_one_series(tmp_path):
    write_bundle(tmp_path / "store" / "1")
    write_bundle(tmp_path / "store" / "2", text="others")
    write_bundle(tmp_path / "store" / "3")
    assert len(scraped(tmp_path / "store")) == 6


def test_a_broken_bundle_is_logged_and_the_rest_is_shown(tmp_path, caplog):
    write_bundle(tmp_path / "store" / "1")
    write_bundle(tmp_path / "store" / "2", text="others")
    (tmp_path / "store" / "2" / "manifest.json").write_text("{}")
    registry = CollectorRegistry()
    registry.register(ReferenceCollector(tmp_path / "store"))
    assert len(shown(registry)) == len(shown(registry)) == 3
    assert caplog.text.count("version 2 is passed over") == 1
    assert scraped(tmp_path / "store" / "2") == {}
    assert f"no reference of {tmp_path / 'store' / '2'}" in caplog.text
    with pytest.raises(BundleError, match="was altered after it was written"):
        references(tmp_path / "store" / "2")


def test_reading_references_loads_no_tensorflow():
    script = "import sys, monitoring.live; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_command_prints_what_the_bundle_was_on_its_test_data(tmp_path):
    digest = write_bundle(tmp_path / "store" / "1")
    start = datetime.now(UTC) - timedelta(hours=1)
    table, clicked, times = logs.predictions(
        np.random.default_rng(1), 3_000, bundle=digest, start=start, seconds=300
    )
    logs.write_predictions(tmp_path / "log", table)
    logs.write_clicks(tmp_path / "clicks", "c.parquet", *logs.clicks_of(clicked, times))
    words = ["monitor", "quality", "--once", "--set", "live.windows_seconds=[7200]"]
    for option in ("log", "clicks", "store"):
        words += [f"--{option}", str(tmp_path / option)]
    words += ["--state", str(tmp_path / "state.duckdb")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0
    assert "0.820" in found.output
    [row] = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["quality"]
    assert (row["bundle"], row["test_normalized_entropy"]) == (digest, 0.82)
    empty = CliRunner().invoke(app, [*words, "--store", str(tmp_path / "clicks")])
    assert "holds no bundle yet" in " ".join(empty.output.split())
    nowhere = CliRunner().invoke(app, [*words, "--store", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 2
    assert "--store" in nowhere.output
