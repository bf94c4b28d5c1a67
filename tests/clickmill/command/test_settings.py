import pytest

from clickmill.command.settings import nested
from clickmill.errors import UsageError

TOPICS = ("training", "model")


def test_values_are_read_as_yaml_and_nest_by_dots() -> None:
    given = [
        "training.epochs=3",
        "training.learning_rate=1e-3",
        "model.dcn_v2.layers=[64, 32]",
        "model.lr.bias=true",
    ]
    assert nested(given, TOPICS) == {
        "training": {"epochs": 3, "learning_rate": "1e-3"},
        "model": {"dcn_v2": {"layers": [64, 32]}, "lr": {"bias": True}},
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("training.epochs", "must look like topic.name=value"),
        ("epochs=3", "must look like topic.name=value"),
        ("traning.epochs=3", "no topic 'traning'; topics: training, model"),
        ("training.layers=[1", "is not a YAML value"),
    ],
)
def test_a_malformed_setting_is_named(given: str, words: str) -> None:
    with pytest.raises(UsageError, match="--set ") as caught:
        nested([given], TOPICS)
    assert words in str(caught.value)
