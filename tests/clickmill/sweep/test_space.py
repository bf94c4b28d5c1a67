"""Search spaces: legal as a whole before anything is trained."""

from pathlib import Path

import pytest

from clickmill.errors import UsageError
from clickmill.models import MODELS
from clickmill.sweep import Choice, Interval, default_space, load_space
from clickmill.sweep.space import refuse_wrong


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def test_a_file_of_ranges_and_choices_is_read(tmp_path: Path) -> None:
    space = load_space(
        write(
            tmp_path, "training.l2: {low: 0.1, high: 10, log: true}\nmodel.units: {choices: [[8], [16, 8]]}\n"
        ),
        "dcn_v2",
    )
    assert space["training.l2"] == Interval(low=0.1, high=10, log=True)
    assert space["model.units"] == Choice(choices=([8], [16, 8]))
    assert Interval(low=1, high=4).whole
    assert not Interval(low=1, high=4.5).whole


@pytest.mark.parametrize("model", MODELS)
def test_what_is_tried_by_default_is_legal(model: str) -> None:
    refuse_wrong(default_space(model), model, "default")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training.l3: {low: 1, high: 2}", "no setting is called 'training.l3' for fm"),
        ("model.units: {choices: [[8]]}", "no setting is called 'model.units' for fm"),
        ("l2: {low: 1, high: 2}", "no setting is called 'l2'"),
        ("training.l2: {low: 2, high: 1}", "low must be below high"),
        ("training.l2: {low: 0, high: 1, log: true}", "needs a low above 0"),
        ("training.l2: [1, 2]", "write {low: 0.01"),
        ("model.dim: {choices: [8, 0]}", "model.dim: 0 is not legal"),
        ("training.seed: {low: 0, high: 9}", "the best of many seeds is luck"),
        ("", "names no setting"),
    ],
)
def test_a_wrong_space_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_space(write(tmp_path, text), "fm")
    assert words in str(caught.value)


def test_a_model_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model is called 'gbdt'"):
        load_space(write(tmp_path, "training.l2: {low: 1, high: 2}"), "gbdt")
