"""`clickmill monitor drift`: looks once and prints, starts what it may, and says what is wrong."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from clickmill.command.app import app
from tests.monitoring.drift import market


@pytest.fixture
def site(tmp_path, monkeypatch):
    digest = market.write_bundle(tmp_path / "store" / "1", market.rows(12_000, seed=1))
    at = datetime.now(UTC) - timedelta(minutes=1)
    market.write_log(tmp_path / "log", market.logged(market.rows(12_000, seed=2, odds=0.5), digest, at=at))
    monkeypatch.setenv("CLICKMILL_LOG_SALT", market.SALT.secret.decode())
    return tmp_path


def words_for(folder, *more):
    return [
        "monitor", "drift", "--store", str(folder / "store"), "--log", str(folder / "log"), "--out", str(folder / "out"),
        "--set", "drift.report=none", *more,
    ]  # fmt: skip


def test_once_prints_fields_and_verdicts(site):
    found = CliRunner().invoke(app, words_for(site, "--once"))
    assert found.exit_code == 0
    assert "drifted, sound, 12,000 rows" in found.output
    assert "the prediction moved: wasserstein" in found.output
    document = json.loads(CliRunner().invoke(app, words_for(site, "--once", "--json")).stdout)
    [window] = document["windows"]
    assert [field["field"] for field in window["fields"]] == market.FIELDS
    assert {f["field"] for f in window["fields"] if f["drift"] == "drifted"} == {"pctr"}


def test_a_log_that_says_nothing_is_told_where_and_why(site):
    (site / "empty").mkdir()
    found = CliRunner().invoke(app, words_for(site, "--once", "--log", str(site / "empty")))
    assert "empty holds no file of a prediction log" in " ".join(found.output.split())
    found = CliRunner().invoke(app, words_for(site, "--once", "--set", "drift.window_hours=0.001"))
    assert "no row of the last 0.001 h" in " ".join(found.output.split())


def test_a_job_pushes_its_figures(site):
    """A stand-in takes what the client of the real Pushgateway sends."""
    came = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self):
            came.append((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(200 if len(came) == 1 else 400)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        push = words_for(site, "--once", "--push", f"{url}/metrics/job/shop-drift")
        assert CliRunner().invoke(app, push).exit_code == 0
        [(path, text)] = came
        assert path == "/metrics/job/shop-drift"
        assert text == (site / "out" / "drift.prom").read_text()
        assert 'field="",verdict="drifted"} 1.0' in text
        refused = CliRunner().invoke(app, push)
    finally:
        server.shutdown()
        server.server_close()
    assert refused.exit_code == 1
    assert "could not be pushed (HTTP Error 400" in " ".join(refused.output.split())


def test_a_drift_starts_one_training_and_its_words_are_heard(site):
    """The training's own words are wrong on purpose: it fails at once, which the next look finds."""
    words = words_for(
        site, "--once", "--json", "--retrain", "nowhere -c nowhere.yaml", "--set", "retrain.windows=1"
    )
    first = json.loads(CliRunner().invoke(app, words).stdout)["training"]
    assert first["start"]
    second = json.loads(CliRunner().invoke(app, words).stdout)["training"]
    assert (second["start"], second["cause"]) == (False, "under_way")
    [log] = (site / "out" / "trainings").iterdir()
    deadline = time.monotonic() + 120
    while "nowhere.yaml" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "nowhere.yaml" in log.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--once"], "either --log"),
        (["--once", "--log", "nowhere"], "no such folder"),
        (["--once", "--impressions", "x", "--log", "."], "not both"),
        (["--once", "--log", ".", "--set", "drift.psy=1"], "drift.psy"),
        (["--once", "--log", ".", "--push", "http://gateway:9091"], "give URL/metrics/job/NAME"),
        (["--once", "--log", ".", "--out", "/dev/null"], "cannot be made a folder"),
        (["--log", ".", "--push", "http://gateway:9091/metrics/job/shop"], "--push goes with --once"),
        (["--once", "--log", ".", "--set", "retrain.most=0"], "retrain.most"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_read(tmp_path, words, told):
    (tmp_path / "store").mkdir()
    found = CliRunner().invoke(app, ["monitor", "drift", "--store", str(tmp_path / "store"), *words])
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())


@pytest.mark.integration
def test_it_serves_metrics_until_sigterm(site):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from clickmill.command import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, *words_for(site, "--port", str(port))])
    try:
        deadline, text = time.monotonic() + 120, ""
        while 'field="",verdict="drifted"} 1.0' not in text and time.monotonic() < deadline:
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                time.sleep(0.2)
        assert 'field="",verdict="drifted"} 1.0' in text
        assert "clickmill_drift_failed_looks_total 0.0" in text
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
