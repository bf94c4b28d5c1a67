"""`clickmill experiment off-policy` as a user calls it: a verdict, its numbers, and mistakes answered in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from clickmill.command.app import app


def run(*arguments: str):
    return CliRunner().invoke(app, ["experiment", "off-policy", *map(str, arguments)])


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Two ads shown at random in two places; the second is clicked four times as often."""
    rng = np.random.default_rng(0)
    n = 8000
    ad, place = rng.choice(2, n), rng.choice(2, n) + 1
    frame = pd.DataFrame(
        {
            "ad": ad,
            "place": place,
            "click": (rng.random(n) < np.array([0.05, 0.2])[ad]).astype(int),
            "p": 0.5,
            "chances": [[0.25, 0.5]] * n,
            "new": np.where(ad == 1, 0.9, 0.1),
            "name": "x",
            "newer": np.where(ad == 1, 0.6, 0.4),
        }
    )
    path = tmp_path_factory.mktemp("off_policy") / "log.parquet"
    frame.to_parquet(path)
    return path


def test_policies_are_judged_and_compared(log):
    found = run(log, "--propensity", "p", "--target", "new", "--target", "newer")
    assert found.exit_code == 0, found.output
    assert found.stdout.count("BETTER") == 2
    assert "SNIPS (goes by)" in found.stdout
    assert "new minus newer: 0.0" in found.stdout
    told = json.loads(run(log, "--propensity", "p", "--target", "new", "--json").stdout)
    # 0.9 x 0.2 + 0.1 x 0.05 = 0.185, with an error of about 0.006
    assert told["new"]["estimates"]["ips"]["value"] == pytest.approx(0.185, abs=0.02)
    assert told["new"]["verdict"] == "better"


def test_a_list_of_chances_is_read_by_place_and_counts_make_a_reward_model(log):
    found = run(
        log, "--propensity", "chances", "--place", "place", "--target-uniform", "--ad", "ad", "--json"
    )
    told = json.loads(found.stdout)["uniform"]
    assert sorted(told["estimates"]) == ["dm", "dr", "ips", "snips"]
    # Place 1 has half the chance it should have, so its rows weigh twice: the mean weight is 1.5, and nothing is believed.
    assert told["diagnostics"]["mean_weight"]["value"] == pytest.approx(1.5, abs=0.02)
    assert told["verdict"] == "unknown"
    assert "the logged propensities are too low" in told["reasons"][0]


def test_the_clip_tells_what_it_takes(log):
    found = run(log, "--propensity", "p", "--target", "new", "--clip", "1.5", "--interval", "bernstein")
    assert found.exit_code == 0, found.output
    assert "from IPS by what the log shows" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--propensity", "p"],
            2,
            "which policy? Give --target COLUMN, --target-log LOG or --target-uniform",
        ),
        (["--propensity", "q", "--target", "new"], 1, "no column 'q'; it has ad, place, click"),
        (
            ["--propensity", "p", "--target", "new", "--reward", "clik"],
            1,
            "'clik' (did you mean 'click'?); it has ad,",
        ),
        (["--propensity", "p", "--target-uniform"], 2, "need --ad"),
        (["--propensity", "chances", "--target", "new"], 1, "name the column of places (--place)"),
        (["--propensity", "p", "--target", "new", "--interval", "bernstein"], 2, "set clip"),
        (["--propensity", "p", "--target", "new", "--interval", "exact"], 2, "--interval"),
        (
            ["--propensity", "p", "--target", "new", "--model", "p"],
            2,
            "--model and --model-target go together",
        ),
        (["--propensity", "click", "--target", "new"], 1, "propensity must be above 0"),
        (["--propensity", "name", "--target", "new"], 1, "name must hold numbers, it holds object: 'x'"),
        (["--propensity", "p", "--target", "new", "--reward", "name"], 1, "name must hold numbers"),
        (
            ["--propensity", "chances", "--place", "newer", "--target", "new"],
            1,
            "row 0 has 2 places, its newer is 0.",
        ),
    ],
)
def test_mistakes_are_answered_in_words(log, arguments, code, words):
    found = run(log, *arguments)
    assert found.exit_code == code, found.output
    assert words in found.stderr


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory) -> Path:
    """A prediction log of long ago: two impressions by an explorer, one logged twice, one by a fallback, one that nobody saw; and clicks on two."""
    folder = tmp_path_factory.mktemp("endpoint")
    at = pd.to_datetime(["2026-03-01T10:00:00Z"] * 5)
    pd.DataFrame(
        {
            "request_id": ["r1", "r2", "r2", "r3", "r1"],
            "impression_id": ["r1:0", "r2:1", "r2:1", "r3:0", None],
            "time": at + pd.to_timedelta([0, 0, 5, 0, 0], unit="s"),
            "slot": pd.array([1, 1, 1, None, None], "Int32"),
            "propensity": [0.5, 0.25, 0.9, None, None],
            "greedy": [1.0, 0.0, 0.0, None, None],
        }
    ).to_parquet(folder / "log.parquet")
    pd.DataFrame(
        {
            "impression_id": ["r1:0", "r2:1", "r3:0"],
            "click_time": pd.to_datetime(
                ["2026-03-01T10:20:00Z", "2026-03-01T11:00:00Z", "2026-03-01T10:01:00Z"]
            ),
            "price": [2.5, 1.0, 1.0],
        }
    ).to_parquet(folder / "clicks.parquet")
    return folder


def test_an_exploring_endpoints_log_is_joined_with_its_clicks(endpoint):
    log, clicks = endpoint / "log.parquet", endpoint / "clicks.parquet"
    found = run(log, "--clicks", clicks, "--json")
    assert "left out, as no explorer showed them: 1 impressions" in found.stderr
    told = json.loads(found.stdout)["greedy"]
    # r1 was clicked within half an hour, r2 after an hour; the first row of r2 counts: weights 2 and 0.
    assert told["diagnostics"]["rows"] == 2
    assert told["logged"]["value"] == pytest.approx(0.5)
    assert told["estimates"]["ips"]["value"] == pytest.approx((1 / 0.5) / 2)
    assert told["verdict"] == "unknown"
    money = json.loads(
        run(
            log,
            "--clicks",
            clicks,
            "--reward",
            "revenue",
            "--reward-max",
            "9",
            "--attribution",
            "7200",
            "--json",
        ).stdout
    )["greedy"]
    assert money["logged"]["value"] == pytest.approx((2.5 + 1.0) / 2)


def test_mistakes_with_an_endpoints_log_are_answered_in_words(endpoint, tmp_path):
    log, clicks = endpoint / "log.parquet", endpoint / "clicks.parquet"
    found = run(log, "--target", "greedy")
    assert (found.exit_code, "Give --propensity COLUMN" in found.stderr) == (2, True)
    found = run(log, "--clicks", log)
    assert (found.exit_code, "no column 'click_time'" in found.stderr) == (1, True)
    found = run(clicks, "--clicks", clicks)
    assert (found.exit_code, "no column 'time'" in found.stderr) == (1, True)
    found = run(log, "--clicks", tmp_path / "none.parquet")
    assert (found.exit_code, "no such file" in found.stderr) == (1, True)
    pd.read_parquet(log).assign(propensity=np.nan).to_parquet(tmp_path / "log.parquet")
    found = run(tmp_path / "log.parquet", "--clicks", clicks)
    assert found.exit_code == 1
    assert (
        "none of its 3 impressions that are older than 0:30:00 has a propensity; serve with --explore"
        in found.stderr
    )
