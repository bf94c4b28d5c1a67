"""`clickmill capacity` as a user calls it, and the settings file that three commands share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from clickmill.capacity import Measured, Point
from clickmill.command import serve_settings
from clickmill.command.app import app
from clickmill.command.durations import milliseconds
from clickmill.errors import UsageError

FIGURES = ["--saturation", "1000", "--idle-p50", "2ms", "--idle-p99", "2ms", "--cores", "2"]
MEASURED = Measured(
    cores=2, memory_mib=1024, points=(Point(candidates=1, saturation_per_second=1000, idle_ms=(2.0,)),)
)


def run(*arguments: str):
    return CliRunner().invoke(app, ["capacity", *arguments])


def test_figures_of_the_command_line_give_the_plan_by_hand():
    found = run("--qps", "9000", "--p99", "1s", *FIGURES, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["plan"]["replicas"] == 18  # see tests/clickmill/capacity/test_plan.py
    assert told["plan"]["cores"] == 36
    assert told["demand"]["p99_ms"] == 1000


def test_the_table_says_what_was_asked_and_what_it_takes():
    found = run("--qps", "9000", "--p99", "1s", *FIGURES)
    assert found.exit_code == 0, found.output
    assert "9,000 requests/s of 1 candidate, p99 1000 ms" in found.stdout
    assert "18 (6 in each of 3 zones)" in found.stdout


def test_a_measurement_is_read_from_the_file_of_tune(tmp_path: Path):
    serve_settings.write(tmp_path / "serve.yaml", {"threads": 2}, MEASURED)
    found = run("--qps", "9000", "--p99", "1s", "--measured", str(tmp_path / "serve.yaml"), "--json")
    assert json.loads(found.stdout)["plan"]["replicas"] == 18
    assert serve_settings.read(tmp_path / "serve.yaml")["serve"] == {"threads": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--qps", "10", "--p99", "1ms", *FIGURES], "takes 2 ms at p99 with nobody else there. Promise more"),
        (["--qps", "10", "--p99", "10", *FIGURES], "--p99 10: write a number above 0 with its unit"),
        (["--qps", "10", "--p99", "10ms"], "how quick is a replica? Measure it"),
        (["--qps", "10", "--p99", "10ms", "--measured", "gone.yaml"], "gone.yaml: cannot be read as YAML"),
        (
            ["--qps", "10", "--p99", "10ms", "--saturation", "9", "--idle-p50", "3ms", "--idle-p99", "2ms"],
            "0 < p50 <= p99",
        ),
    ],
)
def test_what_cannot_be_planned_says_why_and_what_to_do(arguments, words):
    found = run(*arguments)
    assert found.exit_code == 2
    assert words in found.output


def test_the_million_of_the_issue_is_answered():
    found = run("--qps", "1000000", "--p99", "10ms", *FIGURES, "--json")
    told = json.loads(found.stdout)["plan"]
    assert told["p99_ms_zone_lost"] <= 10
    assert told["replicas"] * told["rate_per_replica"] == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "must hold `serve`"),
        ("serve: 3", "`serve` must be a mapping"),
        ("other: {}", "must hold `serve`"),
        ("serve: {threads: 2}", "has no `measured`"),
        ("measured: {cores: 0, memory_mib: 1, points: []}", "measured.cores"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, text, words):
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(str(path))) as error:
        serve_settings.measured_in(path)
    assert words in str(error.value)


def test_settings_of_a_file_stand_where_the_command_line_says_nothing(tmp_path: Path):
    path = tmp_path / "serve.yaml"
    path.write_text("serve: {threads: 3, batch_rows: 64}\n")
    small = typer.Typer()

    @small.command()
    def serve(
        threads: int = 1,
        batch_rows: int = 0,
        settings: Annotated[
            Path | None, typer.Option(callback=serve_settings.take_settings, is_eager=True)
        ] = None,
    ) -> None:
        typer.echo(f"{threads} {batch_rows}")

    asked = CliRunner().invoke(small, ["--settings", str(path), "--batch-rows", "8"])
    assert asked.stdout == "3 8\n"
    assert CliRunner().invoke(small, []).stdout == "1 0\n"
    path.write_text("serve: {nonsense: 3}\n")
    wrong = CliRunner().invoke(small, ["--settings", str(path)])
    assert isinstance(wrong.exception, UsageError)
    assert "serve.nonsense is no option" in str(wrong.exception)


@pytest.mark.parametrize("text", ["10", "0ms", "-1ms", "10 m", "ms", ""])
def test_a_time_without_a_unit_or_a_value_is_refused(text):
    with pytest.raises(UsageError, match="--p99"):
        milliseconds(text, "--p99")
