"""`clickmill release power`."""

import json

import pytest
from typer.testing import CliRunner

from clickmill.command.app import app


def run(*words):
    return CliRunner().invoke(app, ["release", "power", *words])


def test_it_says_how_long_a_release_takes_and_what_a_fault_costs():
    found = run("--ctr", "0.01", "--traffic", "1000")
    assert found.exit_code == 0
    assert "predicts 20% too many clicks" in found.output
    assert "labelled impressions for calibration" in found.output
    document = json.loads(run("--ctr", "0.01", "--traffic", "1000", "--json").stdout)
    assert [step["percent"] for step in document["steps"]] == [1, 5, 25, 50, 100]
    faster = json.loads(run("--ctr", "0.01", "--traffic", "100000", "--json").stdout)
    assert faster["steps"][0]["seconds"] < document["steps"][0]["seconds"] / 50


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--ctr", "1.5", "--traffic", "1"], "the click rate must be between 0 and 1; got 1.5"),
        (["--ctr", "0.01", "--traffic", "0"], "traffic must be above 0 impressions a second"),
        (
            ["--ctr", "0.01", "--traffic", "1", "--set", "release.steps=[50,10]"],
            "must ascend from at least 1 to 100 percent; got [50, 10]",
        ),
        (["--ctr", "0.01", "--traffic", "1", "--set", "release.alfa=1"], "release.alfa"),
    ],
)
def test_mistakes_are_named(mistake, words):
    found = run(*mistake)
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())
