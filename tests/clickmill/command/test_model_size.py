"""`clickmill model size` as a shell sees it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from clickmill.command import app
from clickmill.contract import dumps, load
from clickmill.data import DatasetMeta, QualityReport, SplitInfo

CONTRACT = """\
name: shop
fields:
  user: {role: user, dtype: string, encoding: {kind: vocabulary, max_size: 999}}
  ad: {role: ad, dtype: string, encoding: {kind: compositional, buckets: 100000000}}
  clicked: {role: label, dtype: int64}
"""


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(CONTRACT)
    return path


def _size(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["model", "size", *map(str, arguments)], env={"COLUMNS": "160"})


def test_numbers_as_json(contract: Path) -> None:
    result = _size(contract, "--model", "lr", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = 1 + (1 + 999) + 10_000 + 10_000
    assert told["table_rows"] == rows
    assert [(f["field"], f["rows"]) for f in told["fields"]] == [
        ("user", 1000),
        ("ad#quotient", 10_000),
        ("ad#remainder", 10_000),
    ]
    assert told["parameters"] == rows + 1  # and the bias
    assert told["weight_bytes"] == 4 * (rows + 1)
    assert told["optimizer_bytes"] == 4 * rows + 8  # Adagrad's number per row, Adam's two for the bias
    assert told["checkpoint_bytes"] == told["weight_bytes"] + told["optimizer_bytes"]
    assert (
        told["training_bytes"] == told["checkpoint_bytes"] + 4 * rows
    )  # how often the train split names each row
    assert told["upper_bound"] is True


def test_the_state_of_the_optimizer_that_is_chosen_is_counted(contract: Path) -> None:
    rows = 21_001
    for setting, numbers in (("training.linear_optimizer=ftrl", 2), ("training.linear_optimizer=adam", 3)):
        told = json.loads(_size(contract, "--model", "lr", "--set", setting, "--json").stdout)
        assert told["optimizer_bytes"] == 4 * numbers * rows + 8
    refused = _size(contract, "--model", "lr", "--set", "training.linear_optimizer=sgd")
    assert refused.exit_code == 2
    assert (
        "training.linear_optimizer: Input should be 'adagrad', 'adam', 'table_adam' or 'ftrl'"
        in refused.stderr
    )


def test_the_tables_for_people(contract: Path) -> None:
    result = _size(contract, "--model", "fm", "--set", "model.dim=31")
    assert result.exit_code == 0, result.output
    # 1,000 rows of width 31 + 1 in float32 are 128,000 bytes
    for word in (
        "ad#remainder",
        "compositional",
        "32,000",
        "125 KiB",
        "upper bound",
        "optimizer state",
        "exported",
    ):
        assert word in result.stdout


def test_a_setting_the_model_lacks_ends_with_the_exit_code_of_wrong_usage(contract: Path) -> None:
    result = _size(contract, "--model", "lr", "--set", "model.dim=31")
    assert result.exit_code == 2


def test_with_data_the_values_there_are_are_counted(contract: Path, tmp_path: Path) -> None:
    loaded = load(contract)
    folder = tmp_path / "prepared"
    (folder / "train").mkdir(parents=True)
    train = {"user": ["a", "b", "a", "b", "c"], "ad": ["x"] * 5, "clicked": [0, 1, 0, 1, 0]}
    pq.write_table(pa.table(train), folder / "train" / "part-000.parquet")
    meta = DatasetMeta(
        contract_digest=loaded.digest,
        data_digest="0" * 64,
        negatives_kept=1.0,
        seed=0,
        splits={"train": SplitInfo(rows=5, clicks=2)},
        quality=QualityReport(origin="by hand", rows=5, quarantined=0),
    )
    (folder / "dataset.json").write_text(meta.model_dump_json())
    (folder / "contract.yaml").write_text(dumps(loaded))
    result = _size(contract, "--data", folder, "--model", "lr", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["fields"][0]["rows"] == 3  # the unknown, a and b; c was seen once
    assert told["vocabulary_bytes"] == len("a\nb\n")
    assert told["upper_bound"] is False

    contract.write_text(CONTRACT.replace("999", "998"))
    refused = _size(contract, "--data", folder)
    assert refused.exit_code == 2
    assert "prepared by another contract" in refused.output
