"""`clickmill features`: what a person types to load the online store and to look into it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from clickmill.command.app import app
from clickmill.contract import loads
from clickmill.data import PrepareOptions, prepare

CONTRACT = """
name: shop
fields:
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  ad_id: {role: ad, dtype: string, encoding: {kind: vocabulary}}
  brand: {role: ad, dtype: string, encoding: {kind: vocabulary}, default: none, lookup_by: ad_id}
  ad_shown: {role: ad, dtype: int64, encoding: {kind: log1p}, aggregate: {of: impressions, by: ad_id, window: 1h}}
"""
START = datetime(2026, 1, 5, tzinfo=UTC)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """100 impressions a minute apart, of the ads a and b in turn; every fifth clicked."""
    folder = tmp_path_factory.mktemp("shop")
    table = {
        "event_time": pa.array([START + timedelta(minutes=m) for m in range(100)], pa.timestamp("us", "UTC")),
        "label": pa.array((np.arange(100) % 5 == 0).astype("int64")),
        "ad_id": pa.array(["a", "b"] * 50),
        "brand": pa.array(["acme", None] * 50),
    }
    pq.write_table(pa.table(table), folder / "log.parquet")
    (folder / "shop.yaml").write_text(CONTRACT)
    options = PrepareOptions(window=timedelta(hours=72), latest=datetime(2027, 1, 1, tzinfo=UTC))
    prepare(folder / "log.parquet", loads(CONTRACT), folder / "ds", options=options)
    return folder


def test_a_data_set_is_published_once_and_can_be_looked_into(shop: Path, tmp_path: Path):
    store = tmp_path / "shop.features"
    first = run("features", "publish", shop / "ds", "--to", store, "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["written"], report["replaces"], report["as_of"]) == (
        True,
        None,
        "2026-01-05T01:39:00.000001Z",
    )
    assert report["entities"]["ad_id"] == {"ids": 2, "fields": ["ad_shown", "brand"], "timed": ["brand"]}
    again = json.loads(run("features", "publish", shop / "ds", "--to", store, "--json").stdout)
    assert (again["written"], again["version"]) == (False, report["version"])
    shown = run("features", "show", "ad_id", "a", "b", "c", "--from", store, "-c", shop / "ds", "--json")
    found = json.loads(shown.stdout)["ad_id"]
    # the hour before 01:39 begins at 00:39:00.000001, so that 00:40 is the first of a's
    assert found["a"] == {
        "ad_shown": {"value": 30, "default_because": None},
        "brand": {"value": "acme", "default_because": None},
    }
    assert found["b"]["brand"] == {"value": "none", "default_because": "no_value"}
    assert found["c"]["ad_shown"] == {"value": 0, "default_because": "unknown_id"}


def test_logs_give_the_very_features_of_their_data_set(shop: Path, tmp_path: Path):
    store = tmp_path / "shop.features"
    arguments = (
        "features",
        "publish",
        shop / "log.parquet",
        "-c",
        shop / "shop.yaml",
        "--to",
        store,
        "--json",
    )
    assert json.loads(run(*arguments).stdout)["written"]
    assert not json.loads(run("features", "publish", shop / "ds", "--to", store, "--json").stdout)["written"]
    earlier = run(*arguments, "--as-of", "2026-01-05T00:30:00")
    assert earlier.exit_code == 2
    assert "say --allow-older to go back" in earlier.stderr
    back = json.loads(run(*arguments, "--as-of", "2026-01-05T00:30:00", "--allow-older").stdout)
    assert back["as_of"] == "2026-01-05T00:30:00Z"


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(shop: Path, tmp_path: Path):
    store = tmp_path / "shop.features"
    result = run("features", "publish", shop / "ds", "--to", store, "--dry-run")
    assert result.exit_code == 0
    assert f"Would be written to {store}" in result.stdout
    assert "ad_id" in result.stdout
    assert "2 ids: ad_shown, brand" in result.stdout
    assert 'a: [30,"acme",' in result.stdout
    assert not store.exists()
    run("features", "publish", shop / "ds", "--to", store)
    logs = ("features", "publish", shop / "log.parquet", "-c", shop / "shop.yaml", "--to", store, "--dry-run")
    assert "Already in" in run(*logs).stdout
    earlier = run(*logs, "--as-of", "2026-01-05")
    assert earlier.exit_code == 2  # as it would be without --dry-run
    assert "say --allow-older to go back" in earlier.stderr


def test_bad_rows_of_a_log_are_told_and_left_out(shop: Path, tmp_path: Path):
    table = pq.read_table(shop / "log.parquet")
    labels = table["label"].to_numpy().copy()
    labels[-1] = 7
    pq.write_table(table.set_column(1, "label", pa.array(labels)), tmp_path / "log.parquet")
    result = run(
        "features",
        "publish",
        tmp_path / "log.parquet",
        "-c",
        shop / "shop.yaml",
        "--to",
        tmp_path / "s",
        "--json",
    )
    assert result.exit_code == 0
    assert "1 of 100 rows break the contract" in result.stderr
    assert "quarantine.parquet" not in result.stderr
    assert json.loads(result.stdout)["as_of"] == "2026-01-05T01:38:00.000001Z"  # the row at 01:39 is no past


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["{ds}", "--to", "redis://127.0.0.1:1/0"],
            1,
            "redis://127.0.0.1:1/0: Error 111 connecting to 127.0.0.1:1",
        ),
        (["{ds}", "--to", "redis://127.0.0.1:1/0"], 1, "check that redis-server runs there"),
        (["{log}", "--to", "redis://127.0.0.1:1/0", "-c", "{yaml}"], 1, "check that redis-server runs there"),
        (["{log}", "--to", "x.features"], 2, "is no prepared data set; for logs give --contract"),
        (["{ds}", "--to", "x.features", "-c", "{yaml}"], 2, "--contract: only with logs; the data set"),
        (["{ds}", "--to", "http://host/"], 2, "http://host/: is no feature store; give redis://HOST:PORT/DB"),
        (["{ds}", "--to", "{folder}"], 2, "is a folder; give the path of a file"),
    ],
)
def test_what_cannot_be_published_is_told_with_what_to_do(shop: Path, arguments, code, words):
    paths = {"ds": shop / "ds", "log": shop / "log.parquet", "yaml": shop / "shop.yaml", "folder": shop}
    result = run("features", "publish", *(a.format(**paths) for a in arguments))
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())


def test_a_contract_that_keeps_nothing_says_how_it_would(shop: Path, tmp_path: Path):
    plain = "\n".join(
        line for line in CONTRACT.splitlines() if "lookup_by" not in line and "aggregate" not in line
    )
    (tmp_path / "plain.yaml").write_text(plain)
    result = run(
        "features", "publish", shop / "log.parquet", "-c", tmp_path / "plain.yaml", "--to", tmp_path / "s"
    )
    assert result.exit_code == 2
    assert "has no field that an online store keeps; give a field `aggregate` or `lookup_by`" in result.stderr


def test_looking_where_nothing_is(shop: Path, tmp_path: Path):
    nothing = run("features", "show", "ad_id", "a", "--from", tmp_path / "none", "-c", shop / "shop.yaml")
    assert nothing.exit_code == 0
    assert "(default: not_published)" in nothing.stdout
    assert "nothing is published there" in nothing.stderr
    wrong = run("features", "show", "brand", "a", "--from", tmp_path / "none", "-c", shop / "shop.yaml")
    assert wrong.exit_code == 2
    assert "keeps nothing under `brand`; it keeps fields under: ad_id" in wrong.stderr
    down = run("features", "show", "ad_id", "a", "--from", "redis://127.0.0.1:1/0", "-c", shop / "shop.yaml")
    assert down.exit_code == 1
    assert "check that redis-server runs there" in down.stderr
