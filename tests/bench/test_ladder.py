"""The table of models: its AUC and its differences against the library's own bootstrap."""

import numpy as np
import pytest
from ladder import Trial, by_model, kept_or, over_seeds, parsed, report

from clickmill.errors import UsageError
from clickmill.evaluation import auc, bootstrap, paired_bootstrap


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=3000)
    y = (rng.random(3000) < 1 / (1 + np.exp(1 - signal))).astype(int)
    noisy, clear = (1 / (1 + np.exp(-(signal + rng.normal(0, s, 3000)))) for s in (2.0, 0.5))
    return y, noisy, clear


def _numbers(cell):
    return [float(part) for part in cell.replace("(", " ").replace(")", " ").replace("to", " ").split()]


def test_values_and_intervals_are_those_of_the_paired_bootstrap(predictions):
    y, noisy, clear = predictions
    cluster = np.arange(3000)
    lines = report(y, cluster, {"noisy": [noisy], "clear": [clear]})
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert [first[0], second[0]] == ["noisy", "clear"]
    value, low, high = _numbers(first[1])
    alone = bootstrap(y, noisy, metrics=["auc"], cluster=cluster, resamples=200)["auc"]
    assert (value, low, high) == pytest.approx((alone.value, alone.low, alone.high), abs=0.003)
    value, low, high = _numbers(second[2])
    pair = paired_bootstrap(y, noisy, clear, metrics=["auc"], cluster=cluster, resamples=200)["auc"]
    assert (value, low, high) == pytest.approx((pair.value, pair.low, pair.high), abs=0.003)


def test_several_trainings_count_by_their_mean(predictions):
    y, noisy, clear = predictions
    line = report(y, np.arange(3000), {"both": [noisy, clear]})[2]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    each = [auc(y, noisy), auc(y, clear)]
    assert _numbers(cells[1])[0] == pytest.approx(np.mean(each), abs=1e-4)
    assert cells[4] == ", ".join(f"{value:.4f}" for value in each)


def test_settings_of_the_command_line_are_json_or_words_and_unknown_ones_are_refused():
    assert parsed(["epochs=3", "kind=words", "units=[8, 4]"]) == {
        "epochs": 3,
        "kind": "words",
        "units": [8, 4],
    }
    assert by_model(["din.dim=4", "din.softmax=true"]) == {"din": {"dim": 4, "softmax": True}}
    with pytest.raises(UsageError, match="softmaxx"):
        by_model(["din.softmaxx=true"])


def test_a_kept_training_is_not_made_again(tmp_path):
    made = []

    def train_anew():
        made.append(1)
        return Trial("lr", np.array([0.25, 0.5]), 0.8, 1.5, 1000.0, 12.0)

    path = tmp_path / "trials" / "lr.npz"
    first, again = kept_or(train_anew, path), kept_or(train_anew, path)
    assert made == [1]
    assert str(again) == str(first)
    assert again.p.tolist() == [0.25, 0.5]
    kept_or(train_anew, None)
    assert made == [1, 1]


def test_the_interval_over_markets_is_students():
    # t(0.975, 2) = 4.303, standard deviation 1: 4.303 / sqrt(3) = 2.484
    assert over_seeds([1.0, 2.0, 3.0], ".2f") == "2.00 (-0.48 to 4.48; 3 seeds)"
    assert over_seeds([1.5], ".2f") == "1.50"
