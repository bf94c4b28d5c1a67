"""`clickmill release`: power, and what people say and see of a release."""

import json
import os
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from clickmill.command.app import app
from clickmill.release import Journal, Release, ReleasePolicy, propose

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


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


@pytest.fixture
def home(tmp_path):
    journal = Journal(tmp_path / "release.jsonl")
    first = Release.first("ctr", "a" * 64, NOON)
    journal.begin(first, by="clickmill", reason="first bundle of the store")
    journal.append(propose(first, "b" * 64, now=NOON, by="ann", reason="daily run"), NOON)
    return tmp_path


def say(home, *words):
    return CliRunner().invoke(app, ["release", *words, "--home", str(home)])


def test_people_see_where_it_stands_and_take_it_back(home):
    assert "ctr: candidate" in say(home, "status").output
    assert "daily run (ann)" in say(home, "status").output
    assert say(home, "rollback", "-m", "revenue fell").exit_code == 0
    state = json.loads(say(home, "status", "--json").stdout)
    assert state["state"]["phase"] == "rolled_back"
    assert state["split"]["percent"] == {"a" * 64: 100}
    assert state["state"]["freeze"]["reason"] == "cool-down after a rollback"
    assert say(home, "resume", "-m", "mended").exit_code == 0
    assert say(home, "freeze", "-m", "black friday", "--hours", "48").exit_code == 0
    shown = say(home, "history").output
    assert "rolled_back, frozen until 2026-" in shown
    assert "UTC" in say(home, "freeze", "-m", "longer", "--hours", "72").output
    assert shown.count("frozen") == 2, "the cool-down and the day; not what was resumed"
    assert [line.strip() for line in shown.splitlines() if line.startswith("    ")] == [
        "first bundle of the store", "daily run", "revenue fell", "mended", "black friday",
    ]  # fmt: skip


def test_status_says_what_the_loop_waits_for_and_when_nobody_looks_any_more(home):
    assert "has looked yet" in say(home, "status").output
    path = home / "saying.txt"
    path.write_text("waits: calibration: 7 of 100 clicks, about 930 more")
    assert json.loads(say(home, "status", "--json").stdout)["now"] == path.read_text()
    os.utime(path, (0, 0))
    words = " ".join(say(home, "status").output.split())
    assert "nobody has looked for" in words
    assert "about 930 more" in words


def test_a_rollback_by_hand_cools_down_as_the_running_policy_says(home):
    (home / "policy.json").write_text(ReleasePolicy(cool_down_seconds=0).model_dump_json())
    assert say(home, "rollback", "-m", "revenue fell").exit_code == 0
    assert json.loads(say(home, "status", "--json").stdout)["state"]["freeze"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollback"], "Missing option '--reason'"),
        (["resume", "-m", "x"], "ctr is not frozen"),
        (["propose", "nowhere", "-m", "x"], "nowhere"),
    ],
)
def test_what_has_no_meaning_is_refused(home, words, told):
    found = say(home, *words)
    assert found.exit_code in (1, 2)
    assert told in " ".join(found.output.split())
    assert len(Journal(home / "release.jsonl").entries) == 2


def test_no_release_says_how_to_begin_one(tmp_path):
    found = say(tmp_path, "status")
    assert found.exit_code == 2
    assert "begin one with `clickmill release run`" in " ".join(found.output.split())
