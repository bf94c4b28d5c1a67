"""Releases on this machine with real servers, a real router, real clicks: `clickmill release run` as a person would start it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.bundle import Store
from serving.ports import claim
from tests.monitoring.release.test_inbox import body, told
from tests.serving.small_bundle import GOOD_ROW, WITH_IMPRESSIONS, write_small_bundle
from tests.waiting import until

pytestmark = pytest.mark.integration

POLICY = {
    "release.steps": "[50,100]", "release.step_seconds": 2, "release.min_requests": 40, "release.min_clicks": 20,
    "release.max_calibration_bias": 0.6, "release.ne_margin": 0.5, "release.planned_impressions": 1000, "release.p99_ms": 1000,
    "release.cool_down_seconds": 5, "live.attribution_seconds": 1, "live.lateness_seconds": 1, "live.windows_seconds": "[60]",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "good": write_small_bundle(folder / "good", bias=-2.0, contract=WITH_IMPRESSIONS),
        "better": write_small_bundle(folder / "better", bias=-2.05, contract=WITH_IMPRESSIONS),
        "hot": write_small_bundle(folder / "hot", bias=1.5, contract=WITH_IMPRESSIONS),
    }


class Site:
    """A release, and callers who click as the good bundle predicts."""

    def __init__(self, folder, bundles):
        self.folder, self.bundles = folder, bundles
        self.store = Store(folder / "store")
        self.store.add(bundles["good"])
        (folder / "clicks").mkdir()
        self.port, self.admin = claim("127.0.0.1", 0, "p"), claim("127.0.0.1", 0, "a")
        self.statuses, self.stop = [], threading.Event()

    def command(self, *words):
        program = [sys.executable, "-c", "from clickmill.command import main; main()", "release", *words]
        return [*program, "--home", str(self.folder / "home")]

    def start(self):
        settings = [word for name, value in POLICY.items() for word in ("--set", f"{name}={value}")]
        words = self.command("run", str(self.folder / "store"), "--clicks", str(self.folder / "clicks"),
                             "--port", str(self.port), "--admin-port", str(self.admin), "--every", "0.5", *settings)  # fmt: skip
        self.log = (self.folder / "run.log").open("ab")
        self.process = subprocess.Popen(
            words, stdout=self.log, stderr=self.log, env={**os.environ, "CLICKMILL_ALERT_TOKEN": "secret"}
        )
        self.until(lambda: self.ask(0) == 200, "an answer")

    def end(self):
        self.stop.set()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()
            self.log.close()

    def ask(self, number, client=httpx):
        row = GOOD_ROW | {"impression_id": f"i{number}"}
        try:
            answer = client.post(
                f"http://127.0.0.1:{self.port}/v1/models/small:predict", json={"instances": [row]},
                headers={"x-clickmill-user": f"u{number % 500}"}, timeout=10,
            )  # fmt: skip
        except httpx.TransportError:
            return 0
        return answer.status_code

    def traffic(self):
        rng, number = np.random.default_rng(1), 1
        clicks, since = [], time.monotonic()
        with httpx.Client(trust_env=False) as client:
            while not self.stop.is_set():
                self.statuses.append(self.ask(number, client))
                if rng.random() < 0.42:  # pCTR of GOOD_ROW by the good bundle
                    clicks.append((f"i{number}", datetime.now(UTC)))
                number += 1
                if time.monotonic() - since > 0.5 and clicks:
                    ids, times = zip(*clicks, strict=True)
                    table = pa.table(
                        {"impression_id": ids, "click_time": pa.array(times, pa.timestamp("us", "UTC"))}
                    )
                    pq.write_table(table, self.folder / "clicks" / ".partial")
                    (self.folder / "clicks" / ".partial").rename(self.folder / "clicks" / f"{number}.parquet")
                    clicks, since = [], time.monotonic()
                time.sleep(0.01)

    def callers(self):
        thread = threading.Thread(target=self.traffic, daemon=True)
        thread.start()
        return thread

    def state(self):
        line = (self.folder / "home" / "release.jsonl").read_text().splitlines()[-1]
        return json.loads(line)

    def until(self, holds, what):
        log = self.folder / "run.log"
        until(
            lambda: holds() or self.process.poll() is not None,
            lambda: f"no {what}: {log.read_text()[-3000:]}",
        )
        assert self.process.poll() is None, log.read_text()


@pytest.fixture
def site(tmp_path, bundles):
    one = Site(tmp_path, bundles)
    one.start()
    yield one
    one.end()


def phase(site):
    return site.state()["state"]["phase"]


def test_a_good_bundle_is_promoted_and_an_alert_brings_the_old_one_back_without_a_lost_request(site):
    thread = site.callers()
    good = site.state()["state"]["stable"]
    site.store.add(site.bundles["better"])
    site.until(lambda: phase(site) == "promoted" and site.state()["state"]["stable"] != good, "promotion")
    better = site.state()["state"]["stable"]
    refused = httpx.post(f"http://127.0.0.1:{site.admin}/alerts", content=body(told(bundle=better[:12])))
    assert refused.status_code == 401
    start = time.monotonic()
    accepted = httpx.post(
        f"http://127.0.0.1:{site.admin}/alerts", content=body(told(bundle=better[:12])),
        headers={"authorization": "Bearer secret"},
    )  # fmt: skip
    assert accepted.json() == {"changed": 1}
    site.until(lambda: phase(site) == "rolled_back", "rollback")
    print(f"from alert to rolled back: {time.monotonic() - start:.2f} s")
    metrics = httpx.get(f"http://127.0.0.1:{site.admin}/metrics").text
    assert f'clickmill_release_traffic_percent{{bundle="{good[:12]}",endpoint="small"}} 100.0' in metrics
    site.stop.set()
    thread.join()
    assert set(site.statuses) == {200}
    said = subprocess.run(site.command("history"), capture_output=True, text=True, check=True).stdout
    assert "alert CalibrationRatioOff: ratio 1.5" in said


def test_a_bundle_that_predicts_too_much_never_gets_past_the_shadow(site):
    thread = site.callers()
    good = site.state()["state"]["stable"]
    site.store.add(site.bundles["hot"])
    site.until(lambda: phase(site) == "rolled_back", "rollback")
    state = site.state()
    assert state["state"]["stable"] == good
    assert "shadow_" in state["reason"]
    site.stop.set()
    thread.join()
    assert set(site.statuses) == {200}


def test_a_canary_whose_server_is_killed_costs_no_request_and_a_restart_of_the_loop_goes_on(site):
    thread = site.callers()
    site.store.add(site.bundles["better"])
    site.until(lambda: phase(site) == "canary", "canary")
    found = subprocess.run(
        ["pgrep", "-P", str(site.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(found[-1]), signal.SIGKILL)
    site.until(lambda: phase(site) in ("promoted", "rolled_back"), "end")
    site.stop.set()
    thread.join()
    assert set(site.statuses) == {200}
    before = site.state()
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(60) == 0
    site.log.close()
    site.start()
    # but for the freeze: the cool-down may have ended in between
    told = [{**one["state"], "freeze": None} for one in (before, site.state())]
    assert told[0] == told[1]
