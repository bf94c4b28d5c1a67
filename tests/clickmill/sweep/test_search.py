"""The search without any training: a bowl whose lowest point is known."""

from pathlib import Path

import pytest

from clickmill.errors import TrainingError
from clickmill.sweep import Choice, Interval, Outcome, search

SPACE = {
    "training.l2": Interval(low=0.01, high=100.0, log=True),
    "model.units": Choice(choices=([8], [16, 8])),
}


def bowl(settings, report) -> float:
    """0 at l2 = 1 and units 16-8."""
    from math import log10

    return log10(settings["training.l2"]) ** 2 + (settings["model.units"] != [16, 8])


def test_the_lowest_point_is_found(tmp_path: Path) -> None:
    trials = list(search(SPACE, bowl, trials=40, journal=tmp_path / "study.log", name="bowl"))
    best = min(trials, key=lambda trial: trial.value)
    assert best.settings["model.units"] == [16, 8]
    assert 0.5 < best.settings["training.l2"] < 2.0
    assert [trial.number for trial in trials] == list(range(40))


def test_the_same_seed_tries_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    def tried(seed: int, file: str) -> list:
        found = search(SPACE, bowl, trials=4, journal=tmp_path / file, name="x", seed=seed)
        return [trial.settings for trial in found]

    assert tried(1, "a") == tried(1, "b")
    assert tried(2, "c") != tried(1, "d")


def test_what_has_ended_is_not_tried_again(tmp_path: Path) -> None:
    asked = []

    def counted(settings, report) -> float:
        asked.append(settings)
        return bowl(settings, report)

    known = list(search(SPACE, counted, trials=3, journal=tmp_path / "s", name="x"))
    more = list(search(SPACE, counted, trials=5, journal=tmp_path / "s", name="x"))
    assert len(asked) == 5
    assert more[:3] == known
    assert len({trial.settings["training.l2"] for trial in more}) == 5
    assert len(list(search(SPACE, counted, trials=2, journal=tmp_path / "s", name="another"))) == 2


def test_an_interrupted_trial_comes_again_with_the_same_settings(tmp_path: Path) -> None:
    seen = []

    def interrupted(settings, report) -> float:
        seen.append(settings)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return bowl(settings, report)

    with pytest.raises(KeyboardInterrupt):
        list(search(SPACE, interrupted, trials=3, journal=tmp_path / "s", name="x"))
    trials = list(search(SPACE, interrupted, trials=3, journal=tmp_path / "s", name="x"))
    assert seen[2] == seen[1]
    assert [trial.settings for trial in trials][:2] == seen[:2]
    assert [trial.outcome for trial in trials] == [Outcome.COMPLETE] * 3


def test_who_is_behind_the_median_is_given_up_and_who_diverges_fails(tmp_path: Path) -> None:
    number = iter(range(8))
    reached = []

    def objective(settings, report) -> float:
        k = next(number)
        if k == 0:
            raise TrainingError("the loss is nan")
        value = 9.0 if k == 7 else 1.0 + 0.1 * k
        report(1, value)
        reached.append(k)
        return value

    trials = list(search(SPACE, objective, trials=8, journal=tmp_path / "s", name="x"))
    assert trials[0].outcome is Outcome.FAILED
    assert trials[0].value is None
    assert trials[7].outcome is Outcome.PRUNED
    assert reached[:5] == [1, 2, 3, 4, 5]
    assert 7 not in reached
