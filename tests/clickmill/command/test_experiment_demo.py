"""The demo's three experiments get the answers that the market's truth allows."""

import json

import pytest
from typer.testing import CliRunner

from clickmill.command import app


@pytest.mark.large
def test_the_demo_finds_the_broken_split_and_is_not_fooled_by_nothing(tmp_path):
    """As a user runs it: a tenth of one arm's Android users is not seen to be missing in a smaller market."""
    out = tmp_path / "demo"
    done = CliRunner().invoke(app, ["experiment", "demo", "--out", str(out), "--over-http", "500", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert found["impressions"] >= found["planned_impressions"]
    assert min(found["rankings_over_http_as_in_process"].values()) > 0.99
    assert found["verdicts"]["broken"] == "UNKNOWN"
    assert found["verdicts"]["null"] != "PASS"
    assert found["lifts"]["better"]["low"] < found["true_lift"] < found["lifts"]["better"]["high"]
    assert found["lifts"]["null"]["low"] < 0 < found["lifts"]["null"]["high"]
    assert found["lifts"]["better"]["variance_kept"] < 0.95
    assert "the experiment itself is broken" in (out / "broken.html").read_text()
    assert "500 of " in (out / "better.html").read_text()


def test_the_demo_removes_no_folder_that_it_did_not_write(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    done = CliRunner().invoke(app, ["experiment", "demo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "which no experiment demo wrote" in " ".join(done.output.split())
    assert (tmp_path / "mine.txt").read_text() == "keep"
