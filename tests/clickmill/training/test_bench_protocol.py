"""How the training bench talks to its sides (tests/bench/train_protocol.py), with a side that only counts."""

import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """The bench's modules by name: scripts that lie beside each other."""
    monkeypatch.syspath_prepend(str(BENCH))

    def module(name):
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        found = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, found)
        spec.loader.exec_module(found)
        return found

    data = module("train_data")
    return data, module("train_protocol")


class Counter:
    def __init__(self):
        self.steps = self.epochs = 0

    def train(self, steps):
        self.steps += steps

    def epoch(self):
        self.epochs += 1

    def score(self, rows):
        return rows["label"]


def test_a_side_does_what_each_line_says(bench):
    _, protocol = bench
    side, answers = Counter(), io.StringIO()
    lines = io.StringIO(
        '{"do": "train", "steps": 3}\n{"do": "epoch"}\n{"do": "memory"}\n{"do": "quit"}\n{"do": "epoch"}\n'
    )
    protocol.serve(side, {"label": np.array([0.0, 1.0, 1.0])}, 500, lines, answers)
    trained, epoch, memory = map(json.loads, answers.getvalue().splitlines())
    assert (side.steps, side.epochs) == (3, 1)
    assert trained["samples"] == 3 * 4096
    assert (epoch["samples"], epoch["auc"]) == (500, 1.0)
    assert 0 < memory["now"] <= memory["peak"]


def test_a_side_that_dies_tells_its_last_words(bench, tmp_path):
    _, protocol = bench
    program = "import sys; sys.exit('no such library')"
    process = protocol.Process([sys.executable, "-c", program], {}, tmp_path / "log")
    with pytest.raises(protocol.SideFailed, match="exit status 1:\nno such library"):
        process.ask("epoch")
    process.close()


def test_the_bench_tells_auc_by_counting_pairs(bench):
    data, _ = bench
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 60), rng.integers(0, 9, 60)
    pairs = [(a > b) + (a == b) / 2 for a in score[label == 1] for b in score[label == 0]]
    assert data.auc(label, score) == pytest.approx(np.mean(pairs))


def test_labels_of_the_planted_model_can_be_told_from_its_ids(bench):
    data, _ = bench
    train, held_out = data.planted(ids=20, train=4000, held_out=1000)
    rate = [[train["label"][train["ids"][:, f] == i].mean() for i in range(20)] for f in range(data.FIELDS)]
    score = sum(np.log(np.array(rate[f])[held_out["ids"][:, f]] + 0.01) for f in range(data.FIELDS))
    assert data.auc(held_out["label"], score) > 0.6
