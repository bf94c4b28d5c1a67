"""`clickmill sweep` on a small market without a test split: settings are chosen by validation NE alone."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from clickmill.command import app
from clickmill.command.settings import nested
from clickmill.contract import loads
from clickmill.data import PreparedDataset, prepare_splits
from clickmill.evaluation import normalized_entropy
from clickmill.features import fit
from clickmill.sweep import Interval, sweep
from clickmill.training import TrainedModel

CONTRACT = """
name: toy
source: {format: csv}
fields:
  label: {role: label, dtype: int64}
  user: {role: user, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    files = {}
    for name, rows in (("train", 1500), ("validation", 500)):
        user, ad = rng.integers(0, 12, rows), rng.integers(0, 9, rows)
        label = rng.random(rows) < np.where((user + ad) % 3 == 0, 0.7, 0.2)
        lines = [f"{int(y)},{u},{a}" for y, u, a in zip(label, user, ad, strict=True)]
        files[name] = place / f"{name}.csv"
        files[name].write_text("label,user,ad\n" + "\n".join(lines) + "\n")
    return prepare_splits(files, loads(CONTRACT), place / "prepared").root


def _sweep(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_best_by_validation_ne_is_kept_with_its_settings(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = _sweep(
        data, "--model", "fm", "--trials", 4, "--out", out, "--set", "training.epochs=2", "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    values = [trial["value"] for trial in told["trials"]]
    assert len(values) == 4
    assert told["validation_ne"] == min(values)
    # what was kept is what was told: the model, scored again
    dataset = PreparedDataset.open(data)
    p = 1 / (1 + np.exp(-TrainedModel.load(out / "best").raw_logits_of(dataset, "validation").astype(float)))
    y = dataset.columns("validation", ["label"])["label"].to_numpy()
    assert normalized_entropy(y, p) == pytest.approx(min(values), abs=1e-6)
    # both ways to hand the settings on say the same
    from_file = nested([], ["training", "model"], out / "best.yaml")
    assert from_file == nested(told["set"], ["training", "model"])
    assert from_file["training"]["epochs"] == 2
    assert from_file["model"]["fm"]["dim"] == told["settings"]["model.dim"]
    assert not list((out / "trials").iterdir())

    again = _sweep(data, "--model", "fm", "--trials", 4, "--out", out, "--set", "training.epochs=2")
    assert again.exit_code == 0, again.output
    assert "epoch" not in again.stderr
    assert f"best of 4 by validation NE, {min(values):.4f}" in again.stdout


def test_ctrl_c_within_a_trial_loses_neither_it_nor_those_before(data: Path, tmp_path: Path) -> None:
    dataset = PreparedDataset.open(data)
    rows, space = fit(dataset), {"training.l2": Interval(low=0.1, high=10.0, log=True)}
    arguments = {"trials": 2, "fixed": {"training.epochs": 2, "training.batch_size": 128}}
    whole = sweep(dataset, rows, "fm", space, out=tmp_path / "whole", **arguments)

    class Interrupting:
        """Presses Ctrl-C in the second epoch of the second trial."""

        epochs = 0

        def start(self, task, total, unit):
            self.epochs += task.startswith("epoch")
            if self.epochs == 4:
                os.kill(os.getpid(), signal.SIGINT)

        def advance(self, n=1, **figures):
            pass

        def finish(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        sweep(dataset, rows, "fm", space, out=tmp_path / "cut", progress=Interrupting(), **arguments)
    assert len(list((tmp_path / "cut" / "trials").iterdir())) == 1
    resumed = sweep(dataset, rows, "fm", space, out=tmp_path / "cut", **arguments)
    assert [t.settings for t in resumed.trials] == [t.settings for t in whole.trials]
    assert [t.value for t in resumed.trials] == pytest.approx([t.value for t in whole.trials], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "gbdt"], "no model is called 'gbdt'"),
        (["--set", "training.epoch=2"], "epoch"),
        (["--set", "gate.max_ece=2"], "no topic 'gate'"),
    ],
)
def test_wrong_words_end_with_the_exit_code_of_wrong_usage(
    arguments: list[str], words: str, data: Path, tmp_path: Path
) -> None:
    result = _sweep(data, "--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_settings_file_that_is_none_is_named(tmp_path: Path) -> None:
    from clickmill.errors import UsageError

    path = tmp_path / "s.yaml"
    for content, words in ((["a"], "a mapping per topic"), ({"gate": {"x": 1}}, "no topic 'gate'")):
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(UsageError, match=words):
            nested([], ["training"], path)
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        nested([], ["training"], tmp_path / "nowhere.yaml")
    path.write_text("training: {epochs: 2, l2: 1.0}")
    assert nested(["training.epochs=3"], ["training"], path) == {"training": {"epochs": 3, "l2": 1.0}}
