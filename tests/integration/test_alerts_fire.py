"""A bundle that predicts three times too much: joined, measured, alerted on and told to the release machine by the real programs.

The rules are those of the repository but for their waiting times (`engine.hurried_rules`).
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from monitoring.live import LiveSettings, watch
from serving.ports import claim
from tests.integration import engine
from tests.monitoring.live import logs
from tests.waiting import until

pytestmark = pytest.mark.integration

GOOD, BAD = "a" * 64, "b" * 64


class Receiver(BaseHTTPRequestHandler):
    """Stands where the release machine's receiver will."""

    told: list[tuple[str, dict]]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append((self.headers["authorization"], json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        """Silent."""


@pytest.fixture
def receiver():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.told = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def live_quality(tmp_path):
    """`clickmill monitor quality` over an hour's logs of a calibrated bundle and one that predicts three times the clicks."""
    rng = np.random.default_rng(3)
    start = datetime.now(UTC) - timedelta(hours=1)
    for n, (bundle, times) in enumerate(((GOOD, 1.0), (BAD, 3.0))):
        table, clicked, at = logs.predictions(
            rng, 30_000, first=n * 30_000, bundle=bundle, start=start, seconds=900, times=times
        )
        logs.write_predictions(tmp_path / "log", table, writer=f"w{n}")
        logs.write_clicks(tmp_path / "clicks", f"{n}.parquet", *logs.clicks_of(clicked, at, first=n * 30_000))
    port, stop = claim("127.0.0.1", 0, "port"), threading.Event()
    settings = LiveSettings(windows_seconds=(7_200,))
    where = (tmp_path / "log", tmp_path / "clicks", tmp_path / "state.duckdb")
    thread = threading.Thread(
        target=watch,
        args=(settings, *where),
        kwargs={"port": port, "host": "127.0.0.1", "every": 1.0, "stop": stop},
    )
    thread.start()
    yield port
    stop.set()
    thread.join()


def test_the_release_machine_is_told_which_bundle_and_nothing_of_the_good_one(
    tmp_path, receiver, live_quality
):
    engine.installed("prometheus", "prometheus-alertmanager")
    address = f"http://127.0.0.1:{receiver.server_address[1]}/alerts"
    with (
        engine.alertmanager(tmp_path, address) as port,
        engine.prometheus(tmp_path, {"live-quality": live_quality}, port) as url,
    ):

        def alerts():
            found = httpx.get(f"{url}/api/v1/alerts", trust_env=False).json()["data"]["alerts"]
            return {
                (a["labels"]["alertname"], a["labels"].get("bundle")) for a in found if a["state"] == "firing"
            }

        until(lambda: ("CalibrationRatioHigh", BAD[:12]) in alerts(), alerts)
        assert not {bundle for _, bundle in alerts()} & {GOOD[:12]}
        until(lambda: receiver.told, (tmp_path / "alertmanager.log").read_text)
    token, message = receiver.told[0]
    assert token == "Bearer a-token"
    assert message["version"] == "4"
    [alert] = message["alerts"]
    assert (alert["status"], alert["labels"]["action"]) == ("firing", "rollback")
    assert (alert["labels"]["alertname"], alert["labels"]["bundle"]) == ("CalibrationRatioHigh", BAD[:12])
    assert alert["annotations"]["summary"].startswith(f"Bundle {BAD[:12]} predicts at least ")


def test_a_stalled_click_log_holds_the_rollback_back_but_not_that_of_a_bundle_that_gives_nan(
    tmp_path, receiver
):
    engine.installed("prometheus-alertmanager")
    address = f"http://127.0.0.1:{receiver.server_address[1]}/alerts"
    quality = {"subject": "quality", "action": "rollback", "severity": "critical", "bundle": BAD[:12]}
    with engine.alertmanager(tmp_path, address) as port:
        url = f"http://127.0.0.1:{port}/api/v2/alerts"

        def fire(*alerts):
            sent = [{"labels": labels, "annotations": {"summary": "x"}} for labels in alerts]
            assert httpx.post(url, json=sent, trust_env=False).status_code == 200

        def states():
            found = httpx.get(url, trust_env=False).json()
            return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in found}

        fire(
            {
                "alertname": "ClickLogStalled",
                "subject": "labels",
                "action": "page-data",
                "severity": "critical",
            }
        )
        until(lambda: "ClickLogStalled" in states(), states)
        fire(
            {"alertname": "CalibrationRatioHigh", **quality}, {"alertname": "NotFinitePredictions", **quality}
        )
        until(lambda: receiver.told, states)
        until(lambda: states().get("CalibrationRatioHigh") == "suppressed", states)
        assert states()["NotFinitePredictions"] == "active"
    assert {a["labels"]["alertname"] for _, message in receiver.told for a in message["alerts"]} == {
        "NotFinitePredictions"
    }
