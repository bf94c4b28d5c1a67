"""The demo's three experiments get the answers that the market's truth allows."""

import json

import pytest
from typer.testing import CliRunner

from clickmill.command import app


@pytest.mark.large
def test_the_demo_finds_the_broken_split_and_is_not_fooled_by_nothing(tmp_path):
    out = tmp_path / "demo"
    done = CliRunner().invoke(
        app, ["experiment", "demo", "--out", str(out), "--impressions", "200000", "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert found["true_lift"] > 0.05
    assert found["verdicts"]["broken"] == "UNKNOWN"
    assert found["verdicts"]["null"] != "PASS"
    assert found["verdicts"]["better"] != "FAIL"
    assert found["lifts"]["better"]["low"] < found["true_lift"] < found["lifts"]["better"]["high"]
    assert found["lifts"]["null"]["low"] < 0 < found["lifts"]["null"]["high"]
    assert found["lifts"]["better"]["variance_kept"] < 0.95
    assert "the experiment itself is broken" in (out / "broken.html").read_text()
    again = CliRunner().invoke(app, ["experiment", "demo", "--out", str(tmp_path)])
    assert again.exit_code == 2
    assert "which no experiment demo wrote" in " ".join(again.output.split())
