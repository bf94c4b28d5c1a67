"""The console: what it shows, who may press, and a person's way through it in real Chromium."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, datetime

import pytest
import uvicorn
from fastapi.testclient import TestClient

from clickmill.release import Journal, Phase, Release, ReleasePolicy, Seen, Traffic, propose
from monitoring.live import quality
from monitoring.release import Inbox, application
from tests.clickmill.release import market
from tests.monitoring.release.test_inbox import body, told
from tests.waiting import until

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD, NEW = "a" * 64, "b" * 64
POLICY = ReleasePolicy()


class Quiet:
    """A target that only says what was counted."""

    def seen(self):
        return "e", {
            GOOD: Seen(live=Traffic(requests=12_345, errors=2)),
            NEW: Seen(live=Traffic(requests=650, slow=7)),
        }


@pytest.fixture
def journal(tmp_path):
    found = Journal(tmp_path / "release.jsonl")
    found.begin(Release.first("ctr", GOOD, NOON), by="clickmill", reason="first bundle of the store")
    found.append(propose(found.state, NEW, now=NOON, by="ann", reason="daily <run>"), NOON)
    canary = found.state.model_copy(update={"phase": Phase.CANARY, "percent": 5})
    found.append(propose(Release.first("ctr", GOOD, NOON), NEW, now=NOON, by="ann", reason="x").model_copy(
        update={"next": canary, "reason": "shadow passed: shadow_ne: NE +0.0004"}), NOON)  # fmt: skip
    return found


@pytest.fixture
def app(journal, tmp_path):
    import numpy as np

    inbox = Inbox(tmp_path / "alerts.json")
    inbox.take(body(told(bundle=NEW[:12])))
    labelled = market.labelled(np.random.default_rng(1), 20_000, times=1.4)
    figures = {NEW: quality(labelled, ((0, 20_000, labelled.clicks),))}
    return application(
        journal, inbox, Quiet(), POLICY, "secret", stepped=lambda: 1.0, quality=lambda: figures,
        servers=lambda: {NEW: "127.0.0.1:9002", GOOD: "127.0.0.1:9001"},
        saying=lambda: "waits: calibration: 7 of 100 clicks, about <930> more",
    )  # fmt: skip


def press(client, **form):
    return client.post("/do", data=form, follow_redirects=False)


def test_it_shows_where_the_release_stands_and_takes_no_markup_from_a_reason(app):
    page = TestClient(app).get("/")
    assert "canary at 5 %" in page.text
    assert "12,345" in page.text
    assert "CalibrationRatioOff" in page.text
    assert "daily &lt;run&gt;" in page.text
    assert "7 of 100 clicks, about &lt;930&gt; more" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"action": "rollback", "reason": "x", "token": "wrong"}, 401, "the token is wrong"),
        ({"action": "rollback", "reason": "x"}, 401, "the token is wrong"),
        ({"action": "rollback", "reason": " ", "token": "secret"}, 400, "say why"),
        ({"action": "resume", "reason": "x", "token": "secret"}, 409, "ctr is not frozen"),
        ({"action": "explode", "reason": "x", "token": "secret"}, 409, "there is no action"),
    ],
)
def test_nothing_is_done_without_token_reason_and_meaning(app, journal, form, status, words):
    before = journal.path.read_bytes()
    found = press(TestClient(app), **form)
    assert found.status_code == status
    assert words in found.text
    assert journal.path.read_bytes() == before


def test_prometheus_is_told_where_the_servers_of_the_bundles_are(app):
    found = TestClient(app).get("/targets")
    assert found.headers["content-type"].startswith("application/json")  # Prometheus refuses any other
    assert found.json() == [{"targets": ["127.0.0.1:9001", "127.0.0.1:9002"], "labels": {}}]


def test_a_person_takes_it_back(app, journal):
    assert press(TestClient(app), action="rollback", reason="revenue fell", token="secret").status_code == 303
    assert journal.state.phase is Phase.ROLLED_BACK
    assert journal.entries[-1].by.endswith("(console)")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Headless Chromium over its DevTools socket: evaluates in the page."""

    def __init__(self, profile):
        import websocket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-allow-origins=*",
        ]
        self.process = subprocess.Popen(
            [CHROMIUM, *flags, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=2))
                target = next(page for page in pages if page["type"] == "page")
                break
            except (OSError, StopIteration):
                assert time.monotonic() < deadline, "chromium did not open its DevTools port"
                time.sleep(0.1)
        self.socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=60)
        self.number = 0

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        return answer["result"]

    def run(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script):
        until(lambda: self.run(script), lambda: script)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)


@pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: the console was not looked at by a browser"
)
def test_a_person_freezes_and_takes_it_back_in_a_real_browser(app, journal, tmp_path):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Page.enable")
        browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
        browser.until("document.querySelector('button[value=freeze]') !== null")
        assert browser.run("document.querySelector('.phase').innerText") == "canary at 5 %"
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True
        )
        assert browser.run(wide), "the page scrolls sideways on a phone"

        def press(action, reason, token):
            browser.run(
                f"document.querySelector('[name=reason]').value = {json.dumps(reason)};"
                f"document.querySelector('[name=token]').value = {json.dumps(token)};"
                f"document.querySelector('button[value={action}]').click()"
            )

        press("rollback", "revenue fell", "wrong")
        browser.until("document.querySelector('.error')?.innerText.includes('token is wrong')")
        assert journal.state.phase is Phase.CANARY
        press("freeze", "black friday", "secret")
        browser.until("document.querySelector('button[value=resume]') !== null")
        assert journal.state.freeze.reason == "black friday"
        press("rollback", "revenue fell", "secret")
        browser.until("document.querySelector('.phase').innerText === 'rolled_back'")
        assert journal.state.phase is Phase.ROLLED_BACK
        assert browser.run("document.body.innerText.includes('revenue fell')")
    finally:
        browser.close()
        server.should_exit = True
        thread.join()
