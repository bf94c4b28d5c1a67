"""Every panel of every dashboard, asked of a real Prometheus that watches a real endpoint, a real lookup, real live quality
what the release machine exports (its traffic made up), and drift (its market made up)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, start_http_server

from clickmill.bundle import manifest as manifests
from clickmill.progress import SILENT
from monitoring import experiments
from monitoring.dashboards import BOARDS
from monitoring.dashboards.panels import RATE
from monitoring.dashboards.write import text_of
from monitoring.drift import Bundles, DriftChecker, DriftCollector, DriftSettings, Event, Retraining
from monitoring.live import LiveSettings, watch
from serving.features import FeatureMetrics, Lookup, encoded, publication_of, shelf_at, store_at
from serving.ports import claim
from serving.process import running_server
from tests.clickmill.experiment import drawn
from tests.integration import engine
from tests.monitoring.drift import market
from tests.monitoring.experiments import arms_log
from tests.monitoring.live import logs
from tests.monitoring.series import releases
from tests.serving.features import online_folder
from tests.serving.small_bundle import GOOD_ROW, write_small_bundle

pytestmark = pytest.mark.integration

MOODY = """
import json, sys, time
from dataclasses import replace
import numpy as np
from serving.prediction_log import LogSettings
from serving.server import serve
from serving.engines import load_verified

class Moody:
    ranks = False
    def __init__(self, scorer):
        self.predict_now, self.contract, self.digest = scorer.predict, scorer.contract, scorer.digest
    def predict(self, raw):
        time.sleep(0.01)
        scores = self.predict_now(raw)
        return {**scores, "pctr": np.where(raw["price"] == 999, np.float32("nan"), scores["pctr"])}

def load(path):
    loaded = load_verified(path)
    return replace(loaded, scorer=Moody(loaded.scorer))

serve(**json.loads(sys.argv[1]), load=load, log_settings=LogSettings(file_seconds=1))
"""
"""An endpoint whose graph takes 10 ms more, and gives NaN at a price of 999."""

RANKING = {"user": {"user_id": "u1"}, "candidates": [{"id": "x", "ad_id": "a1", "bid": 1.0, "price": 3.0}]}


class Broker(BaseHTTPRequestHandler):
    """Takes every other event."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        self.send_response(202 if self.server.asked % 2 else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words):
        """Silent."""


@contextlib.contextmanager
def scraped(registry: CollectorRegistry) -> Iterator[int]:
    """A registry on a port of this machine, for as long as it is asked."""
    server, serving = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


@contextlib.contextmanager
def broker() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broker)
    server.asked = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def store_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """A store of one bundle that knows its NE on test data, beside one that is refused; and the bundle's digest."""
    bundle = write_small_bundle(folder / "small")
    manifest = manifests.read(bundle)
    figures = {"normalized_entropy": 0.8, "click_rate": 0.02, "calibration_ratio": 1.0}
    path = bundle / manifests.MANIFEST
    path.unlink()
    path.write_bytes(manifest.model_copy(update={"metrics": figures}).to_bytes())
    (folder / "store").mkdir()
    shutil.move(bundle, folder / "store" / "1")
    (folder / "store" / "2").mkdir()
    (folder / "store" / "2" / "manifest.json").write_text("{}")
    yield folder / "store", manifest.digest


@contextlib.contextmanager
def on_a_thread(
    stop: threading.Event, work: Callable[..., object], /, *arguments, **options
) -> Iterator[None]:
    """Work that goes on until `stop` is set, which leaving does."""
    thread = threading.Thread(target=work, args=arguments, kwargs=options)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def live_quality(folder: Path, store: Path, digest: str) -> Iterator[int]:
    start = datetime.now(UTC) - timedelta(hours=1)
    table, clicked, times = logs.predictions(
        np.random.default_rng(3), 30_000, bundle=digest, start=start, seconds=900
    )
    logs.write_predictions(folder / "impressions", table)
    logs.write_clicks(folder / "clicks", "c.parquet", *logs.clicks_of(clicked, times))
    port, stop = claim("127.0.0.1", 0, "port"), threading.Event()
    settings = LiveSettings(windows_seconds=(7_200,), slices=("device",))
    options = {"port": port, "host": "127.0.0.1", "every": 1.0, "stop": stop, "store": store}
    where = (folder / "impressions", folder / "clicks", folder / "state.duckdb")
    with on_a_thread(stop, watch, settings, *where, **options):
        yield port


@contextlib.contextmanager
def lookups(folder: Path, stop: threading.Event) -> Iterator[int]:
    """A reader of a feature store under load: fresh, stale and unknown values."""
    registry = CollectorRegistry()
    online = online_folder.write_folder(
        folder / "online", online_folder.USERS, online_folder.ADS, hours_ago=1.0
    )
    target = str(folder / "shop.features")
    rows = {by: encoded(online, by) for by in ("user_id", "ad_id")}
    publication = publication_of(online, online_folder.CONTRACT)
    shelf_at(target, "shop").put(publication, rows, allow_older=False, progress=SILENT)

    async def look() -> None:
        lookup = Lookup(online_folder.CONTRACT, store_at(target, "shop"), FeatureMetrics(registry))
        while not stop.is_set():
            await lookup.find({"user_id": ["ann"] * 100, "ad_id": [7, 8, 9, 10] * 50}, deadline_s=5.0)
            await asyncio.sleep(0.2)
        await lookup.close()

    with scraped(registry) as port, on_a_thread(stop, lambda: asyncio.run(look())):
        yield port


@contextlib.contextmanager
def release_machine(folder: Path) -> Iterator[int]:
    registry = CollectorRegistry()
    (folder / "release").mkdir()
    registry.register(releases(folder / "release"))
    with scraped(registry) as port:
        yield port


@contextlib.contextmanager
def drift_monitor(folder: Path, digest: str) -> Iterator[int]:
    """What drift exports of rows that moved: a number up, a category that lost values, and a record of trainings."""
    market.write_bundle(folder / "drift" / "store" / "1", market.rows(15_000, seed=1))
    [place] = (folder / "drift" / "store").iterdir()
    checker = DriftChecker(
        Bundles(place), DriftSettings(report="none"), folder / "drift" / "out", market.SALT
    )
    of_market = checker.bundles.serving()
    moved = market.logged(market.rows(15_000, seed=2, phone=0.3, price=1000.0), of_market)
    log = market.write_log(folder / "drift" / "log", moved)
    [found] = checker.check_log(log, market.NOON)
    collector, registry, now = DriftCollector(), CollectorRegistry(), datetime.now(UTC)
    line = Retraining(at=now, event=Event.STARTED, bundle=digest, reason="moved", run="r")
    collector.show(now, [found.model_copy(update={"bundle": digest})], [line])
    registry.register(collector)
    with scraped(registry) as port:
        yield port


@contextlib.contextmanager
def experiment(folder: Path) -> Iterator[int]:
    """A running experiment whose better arm is not shown to be better yet."""
    watched = arms_log.write(folder / "experiment", users=700, spec=drawn.spec(guardrails={"rpm": 0.05}))
    port, stop = claim("127.0.0.1", 0, "port"), threading.Event()
    options = {"port": port, "host": "127.0.0.1", "every": 5.0, "stop": stop}
    with on_a_thread(stop, experiments.watch, watched, **options):
        yield port


def send(url: str, stop: threading.Event) -> None:
    """One client of many: rows, rankings, and what goes wrong: NaN, a broken body, no time left."""
    row = {**GOOD_ROW, "price": 3.0}
    rank, nan = json.dumps(RANKING), json.dumps({"instances": [{**row, "price": 999.0}]})
    v1, ranking = f"{url}/v1/models/small:predict", f"{url}/v1/models/small:rank"
    kind = {"content-type": "application/json"}
    with httpx.Client(timeout=30, trust_env=False, headers=kind) as client:
        while not stop.is_set():
            client.post(v1, content=json.dumps({"instances": [row] * 20}))
            client.post(ranking, content=rank)
            client.post(ranking, content=rank, headers={"x-request-timeout-ms": "1"})
            client.post(v1, content=nan)
            client.post(v1, content="{")


def test_every_panel_has_data(tmp_path):
    engine.installed("prometheus")
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        store, digest = stack.enter_context(store_of(tmp_path))
        events = stack.enter_context(broker())
        live = stack.enter_context(live_quality(tmp_path, store, digest))
        features = stack.enter_context(lookups(tmp_path, stop))
        machine = stack.enter_context(release_machine(tmp_path))
        drift = stack.enter_context(drift_monitor(tmp_path, digest))
        running = stack.enter_context(experiment(tmp_path))
        endpoint = stack.enter_context(
            running_server(
                store,
                model_name="small",
                python=MOODY,
                prediction_log=str(tmp_path / "log"),
                log_events=events,
                shed_wait_ms=1.0,
                threads=1,
            )
        )
        targets = {
            "release": machine,
            "drift": drift,
            "experiment": running,
            "live-quality": live,
            "features": features,
            "endpoint": int(endpoint.url.rsplit(":", 1)[1]),
        }
        url = stack.enter_context(engine.prometheus(tmp_path, targets))
        clients = [threading.Thread(target=send, args=(endpoint.url, stop)) for _ in range(24)]
        for client in clients:
            client.start()
        stack.callback(lambda: [client.join() for client in clients])
        stack.callback(stop.set)
        queries = {
            target["expr"]: f"{name}: {panel['title']}"
            for name, board in BOARDS.items()
            for panel in json.loads(text_of(board))["panels"]
            for target in panel.get("targets", ())
        }
        missing, values = dict(queries), {}
        deadline = time.monotonic() + 150
        while missing and time.monotonic() < deadline:
            for query in list(missing):
                # an average over no events is NaN: a panel that draws nothing
                found = [float(s["value"][1]) for s in engine.ask(url, query.replace(RATE, "1m"))]
                if any(np.isfinite(found)):
                    values[queries[query]] = len(found), found[0]
                    del missing[query]
            time.sleep(1)
        for panel, (series, first) in values.items():
            print(f"{panel:70} {series:3} series, {first:.4g}")
        reasons = {s["metric"]["reason"] for s in engine.ask(url, "clickmill_requests_rejected_total")}
        groups = httpx.get(f"{url}/api/v1/rules", timeout=30, trust_env=False).json()["data"]["groups"]
    assert missing == {}, "no data (a panel that rightly has none here should be named with its reason)"
    assert {"overload", "not_finite", "malformed"} <= reasons
    broken = {
        rule["name"]: rule["lastError"]
        for group in groups
        for rule in group["rules"]
        if rule["health"] != "ok"
    }
    assert broken == {}
