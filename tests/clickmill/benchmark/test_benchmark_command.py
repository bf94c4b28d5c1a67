"""`clickmill benchmark` as a shell sees it: two layouts of the same planted rows, and inputs that are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from typer.testing import CliRunner, Result

from clickmill.command import app
from clickmill.data import PreparedDataset
from clickmill.training import TrainedModel


def _benchmark(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def csv_run(
    tmp_path_factory: pytest.TempPathFactory, write_splits: Callable[..., Path]
) -> tuple[Result, Path]:
    place = tmp_path_factory.mktemp("bars")
    data = write_splits(place / "Frappe_x1", "csv")
    return _benchmark(data, "--models", "lr,fm", "--out", place / "out"), place


def test_the_table_puts_ours_beside_the_published(csv_run: tuple[Result, Path]) -> None:
    result, place = csv_run
    assert result.exit_code == 0, result.output
    told = json.loads((place / "out" / "results.json").read_text())
    lr, fm = told["models"]
    assert told["dataset"] == "frappe_x1"
    assert lr["published_auc"] == 0.9356
    assert lr["difference"] == pytest.approx(lr["auc"]["value"] - 0.9356)
    for text in (
        "0.9671",
        f"{fm['auc']['value']:.4f}",
        f"{fm['difference']:+.4f}",
        f"{fm['log_loss']['value']:.4f}",
    ):
        assert text in result.stdout
        assert text in (place / "out" / "report.md").read_text()
    assert "other rows than those of frappe_x1: train 3,000 (published: 202,027)" in result.stderr


def test_the_pair_that_was_planted_is_found_by_the_model_of_pairs(csv_run: tuple[Result, Path]) -> None:
    lr, fm = json.loads((csv_run[1] / "out" / "results.json").read_text())["models"]
    assert fm["auc"]["low"] > lr["auc"]["high"]


def test_the_figures_are_those_of_another_library_on_the_saved_model(csv_run: tuple[Result, Path]) -> None:
    out = csv_run[1] / "out"
    dataset = PreparedDataset.open(out / "dataset")
    p = 1 / (
        1 + np.exp(-TrainedModel.load(out / "models" / "fm").raw_logits_of(dataset, "test").astype(float))
    )
    y = dataset.columns("test", ["label"])["label"].to_numpy()
    fm = json.loads((out / "results.json").read_text())["models"][1]
    assert fm["auc"]["value"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert fm["log_loss"]["value"] == pytest.approx(log_loss(y, p), abs=1e-6)


def test_libsvm_of_the_same_rows_gives_the_same_figures(
    csv_run: tuple[Result, Path], tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    data = write_splits(tmp_path / "frappe", "libsvm")
    result = _benchmark(data, "--models", "fm", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    (other,) = json.loads(result.stdout)["models"]
    _, fm = json.loads((csv_run[1] / "out" / "results.json").read_text())["models"]
    assert (other["auc"], other["log_loss"]) == (fm["auc"], fm["log_loss"])


def test_what_is_trained_already_is_not_trained_again(csv_run: tuple[Result, Path], tmp_path: Path) -> None:
    data, out = csv_run[1] / "Frappe_x1", tmp_path / "out"
    shutil.copytree(csv_run[1] / "out", out)
    before = (out / "models" / "lr" / "model.json").stat().st_mtime_ns
    again = _benchmark(data, "--models", "lr", "--out", out)
    assert again.exit_code == 0, again.output
    assert "epoch" not in again.stderr
    assert (out / "models" / "lr" / "model.json").stat().st_mtime_ns == before
    with (data / "train.csv").open("a") as file:
        file.write("1," + ",".join(["3"] * 10) + "\n")
    changed = _benchmark(data, "--models", "lr", "--out", out)
    assert changed.exit_code == 0, changed.output
    assert (out / "models" / "lr" / "model.json").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("file", "line", "code", "words"),
    [
        ("train.csv", "1,2,x,4,5,6,7,8,9,10,11\n", 1, ["train.csv", "field `item`", "row 3,000 with x"]),
        ("test.csv", "7,2,3,4,5,6,7,8,9,10,11\n", 1, ["test.csv", "field `label`", "row 900 with 7"]),
        ("valid.csv", "1,2,3\n", 1, ["valid.csv", "(line)", "1,2,3"]),
    ],
)
def test_a_bad_line_is_named_with_its_file(
    file: str, line: str, code: int, words: list[str], tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    with (write_splits(tmp_path / "data", "csv") / file).open("a") as stream:
        stream.write(line)
    result = _benchmark(tmp_path / "data", "--models", "lr", "--out", tmp_path / "out")
    assert result.exit_code == code
    for word in words:
        assert word in result.stderr


def test_wrong_words_end_with_the_exit_code_of_wrong_usage(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    data = write_splits(tmp_path / "data", "csv")
    assert "no suite is called 'mars'" in _benchmark(data, "--suite", "mars").stderr
    refused = _benchmark(data, "--models", "din", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "no recipe for 'din'; it has lr, fm" in refused.stderr
    assert _benchmark(tmp_path / "nowhere").exit_code == 2
