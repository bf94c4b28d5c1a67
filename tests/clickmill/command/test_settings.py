import json
from datetime import UTC, datetime

import pytest

from clickmill.command.settings import nested
from clickmill.errors import UsageError
from components.preprocess.options import options_of

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


@pytest.mark.parametrize("moment", ["2026-01-12", "2026-01-12 00:00:00", "2026-01-12T00:00:00Z"])
def test_a_moment_needs_no_quotes_and_stays_what_json_can_say(moment: str, tmp_path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"preparation: {{as_of: {moment}, wait: 6h}}")
    typed_in = nested([f"preparation.as_of={moment}"], ["preparation"])["preparation"]
    from_file = nested([], ["preparation"], file)["preparation"]
    for given in (typed_in, from_file):
        assert json.loads(json.dumps(given))["as_of"] == moment
        assert options_of(given, negatives_kept=1.0, seed=0).as_of == datetime(2026, 1, 12, tzinfo=UTC)


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
