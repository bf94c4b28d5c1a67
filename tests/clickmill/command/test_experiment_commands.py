"""`clickmill experiment`: what it prints, and how it ends."""

import json
import math

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from clickmill.command import app
from clickmill.experiment.spec import dumps
from tests.clickmill.experiment import drawn


def run(*words):
    return CliRunner().invoke(app, ["experiment", *map(str, words)])


@pytest.fixture
def files(tmp_path):
    def write(table, **changed):
        pq.write_table(table, tmp_path / "log.parquet")
        (tmp_path / "spec.yaml").write_text(dumps(drawn.spec(**changed)))
        return tmp_path / "spec.yaml", tmp_path / "log.parquet"

    return write


def test_design_says_how_much_and_how_long(tmp_path):
    done = run(
        "design",
        "--ctr",
        0.036,
        "--traffic",
        5_000_000,
        "--lift",
        0.001,
        "--json",
        "--plot",
        tmp_path / "plot.svg",
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["needs"]
    assert row["once"]["impressions"] == pytest.approx(840.7e6, rel=0.01)
    assert row["once"]["days"] == math.ceil(row["once"]["impressions"] / 5e6)
    assert row["any_time"]["impressions"] > row["once"]["impressions"]
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()
    # three arms: more of them, and each comparison has half of alpha
    three = json.loads(
        run("design", "--ctr", 0.036, "--traffic", 1e6, "--lift", 0.01, "--arms", 3, "--json").stdout
    )["needs"][0]
    two = json.loads(run("design", "--ctr", 0.036, "--traffic", 1e6, "--lift", 0.01, "--json").stdout)[
        "needs"
    ][0]
    assert three["once"]["impressions"] / two["once"]["impressions"] == pytest.approx(
        1.5 * 9.5 / 7.85, rel=0.01
    )
    told = run("design", "--ctr", 0.03, "--traffic", 1e6, "--rpm", 12, "--absolute", 0.001)
    assert "revenue per thousand" in " ".join(told.stdout.split())
    assert run("design", "--ctr", 3, "--traffic", 1).exit_code == 2


def test_assign_says_the_arm_and_refuses_experiments_that_meet(tmp_path, files):
    spec, _ = files(drawn.impressions(1, 10))
    one, other = (json.loads(run("assign", spec, "u1", "u2", "--json").stdout) for _ in range(2))
    assert one == other
    assert {row["arm"] for row in one} <= {"a", "b"}
    shares = json.loads(run("assign", spec, "--json").stdout)
    assert shares["arm a"] == pytest.approx(0.5, abs=0.01)
    (tmp_path / "two.yaml").write_text(dumps(drawn.spec(name="two")))
    done = run("assign", spec, "u1", "--beside", tmp_path / "two.yaml")
    assert done.exit_code == 2
    assert "overlap in layer 'default'" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("lift", "changed", "code", "words"),
    [
        (0.4, {}, 0, "Yes: b is better than a."),
        (-0.4, {}, 3, "No: b is worse than a."),
        (0.0, {}, 4, "Not known yet"),
    ],
)
def test_analyze_ends_by_its_answer(tmp_path, files, lift, changed, code, words):
    spec, log = files(drawn.impressions(2, 3_000, lift=lift), **changed)
    done = run("analyze", spec, log, "--report", tmp_path / "answer.html")
    assert done.exit_code == code, done.output
    assert words in done.stdout
    assert words in (tmp_path / "answer.html").read_text()
    assert json.loads(run("analyze", spec, log, "--json").stdout)["spec"]["name"] == "drawn"


def test_analyze_says_what_is_wrong_with_a_log(files):
    spec, log = files(drawn.impressions(3, 50).drop_columns(["revenue"]))
    done = run("analyze", spec, log)
    assert done.exit_code == 1
    assert "SchemaMismatch" in done.output
    assert run("analyze", spec, "nowhere.parquet").exit_code == 1
    assert run("analyze", "nowhere.yaml", log).exit_code == 2
