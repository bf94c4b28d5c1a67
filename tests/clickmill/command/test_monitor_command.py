"""`clickmill monitor quality`: looks once and prints, or serves /metrics until it is told to end."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from clickmill import metric_names as names
from clickmill.command.app import app
from tests.monitoring.live import logs


@pytest.fixture
def folders(tmp_path):
    start = datetime.now(UTC) - timedelta(hours=1)
    table, clicked, times = logs.predictions(np.random.default_rng(1), 5_000, start=start, seconds=300)
    logs.write_predictions(tmp_path / "log", table)
    logs.write_clicks(tmp_path / "clicks", "c.parquet", *logs.clicks_of(clicked, times))
    return tmp_path, int(clicked.sum())


def words_for(folder):
    return [
        "monitor", "quality", "--log", str(folder / "log"), "--clicks", str(folder / "clicks"),
        "--state", str(folder / "state.duckdb"), "--set", "live.slices=[device]", "--set", "live.windows_seconds=[7200]",
    ]  # fmt: skip


def test_once_prints_what_it_saw(folders):
    folder, clicks = folders
    found = CliRunner().invoke(app, [*words_for(folder), "--once"])
    assert found.exit_code == 0
    assert "device=phone" in found.output
    again = json.loads(CliRunner().invoke(app, [*words_for(folder), "--once", "--json"]).stdout)
    [whole] = [row for row in again["quality"] if not row["field"]]
    assert (whole["impressions"], whole["clicks"]) == (5_000, clicks)
    assert again["taken_in"]["impressions"] == 0  # the first look had read them


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"log": "clicks"}, "clicks holds no file of a prediction log"),
        ({"clicks": "log"}, "log holds no click file: .parquet, .csv, .jsonl or .json"),
        ({"clicks": "others"}, "9 clicks were read and none is of an impression that is judged"),
        ({"slices": "nope"}, "no prediction has a value of nope"),
        ({"attribution": "86400"}, "no impression can be judged yet"),
    ],
)
def test_what_shows_nothing_is_told_why(folders, given, words):
    folder, _ = folders
    now = datetime.now(UTC)
    logs.write_clicks(folder / "others", "c.parquet", list(range(90_000, 90_009)), [now] * 9)
    command = [
        "monitor", "quality", "--once", "--log", str(folder / given.get("log", "log")), "--state", str(folder / "s.duckdb"),
        "--clicks", str(folder / given.get("clicks", "clicks")), "--set", f"live.slices=[{given.get('slices', 'device')}]",
        "--set", f"live.attribution_seconds={given.get('attribution', '60')}", "--set", "live.windows_seconds=[7200]",
    ]  # fmt: skip
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0
    assert words in " ".join(found.output.split())


@pytest.mark.integration
def test_it_serves_metrics_until_sigterm(folders):
    folder, clicks = folders
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from clickmill.command import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, *words_for(folder), "--port", str(port)])
    try:
        wanted = (
            f'{names.LIVE_CLICKS}{{bundle="aaaaaaaaaaaa",field="",value="",window="7200s"}} {float(clicks)}'
        )
        deadline = time.monotonic() + 60
        text = ""
        while wanted not in text:
            assert time.monotonic() < deadline, text
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--log", "/nowhere"], "--log /nowhere: no such folder"),
        (["--set", "live.windows_seconds=[]"], "must be one or more lengths above 0"),
        (["--set", "live.window=3"], "live has attribution_seconds"),
    ],
)
def test_mistakes_are_named(folders, mistake, words):
    found = CliRunner().invoke(app, [*words_for(folders[0]), "--once", *mistake])
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())
