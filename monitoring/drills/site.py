"""A running system on loopback: `release run` with its servers and router, live quality, Prometheus and Alertmanager, callers who click."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from clickmill import contract as contracts
from clickmill import metric_names as names
from clickmill.bundle import Store
from clickmill.release import Decision, Journal, Phase, Release
from monitoring.drills import shortened_rules
from monitoring.drills.callers import Callers
from monitoring.drills.pager import Pager
from monitoring.drills.processes import DrillFailed, Process, clickmill, free_port, until
from monitoring.drills.timeline import Event, Figure, Kind, Timeline

LOOK_SECONDS = 0.25
"""Between two looks at journal, alerts and figures."""
PULSE_SECONDS = 0.1
HEALTHY_SECONDS = 240.0
"""For the system to come up and its bundle to be seen to be good; TensorFlow may have to be imported on a busy machine."""
BY_HAND = "drill"
ALERTING = ("prometheus", "alertmanager")
"""Parts without which no rule is evaluated and nobody is told."""
CLICKS = 100
"""From which on the rules look at a calibration ratio."""


class Site:
    """Parts by name, the timeline they fill, and what a fault may do to them. A context manager: leaving it stops every process."""

    def __init__(
        self,
        folder: Path,
        good: Path,
        *,
        seed: int = 0,
        policy: Mapping[str, str] | None = None,
        seen: Callable[[Event], None] = lambda event: None,
        alerting: bool = True,
    ) -> None:
        """folder: empty or absent; everything is written there. good: the bundle that serves at first. policy: further settings of the
        release (`{"steps": "[50,100]"}`). seen: hears of each event. alerting: whether Prometheus and Alertmanager run; without them the
        release machine has only its own checks."""
        self.folder, self.timeline, self._alerting = folder, Timeline(seen=seen), alerting
        for name in ("logs", "clicks"):
            (folder / name).mkdir(parents=True)
        self._contract = contracts.load(good / "contract.yaml")
        self.store = Store(folder / "store")
        self.store.add(good)
        self.home = folder / "release"
        self.journal = Journal(self.home / "release.jsonl")
        self.token = secrets.token_hex(16)
        self._ports = {
            name: free_port() for name in ("door", "admin", "quality", "prometheus", "alertmanager")
        }
        self.pager = Pager(self.timeline)
        self.parts = self._described(policy or {})
        self.callers = Callers(
            self._url("door"), good, self._contract, folder / "clicks", self.timeline, seed
        )
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._pulse = threading.Thread(target=self._feel_pulse, name="pulse", daemon=True)
        self._lines = 0
        self._firing: dict[str, float] = {}
        self._all = ExitStack()

    def __enter__(self) -> Site:
        self.pager.start()
        self._all.callback(self.pager.stop)
        for part in reversed(self.parts.values()):
            self._all.callback(part.stop)
        self._all.callback(self.callers.stop)
        try:
            self._come_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in (self._watcher, self._pulse):
            if thread.ident is not None:
                thread.join()
        self._all.close()

    @property
    def admin(self) -> str:
        """URL of the release machine's own port."""
        return self._url("admin")

    @property
    def release(self) -> Release:
        """Where the release stands."""
        return self.journal.state

    def check(self) -> None:
        """Raises DrillFailed when a part ended that nobody killed."""
        for part in self.parts.values():
            if part.name not in self._down:
                part.check()

    def until(self, condition: Any, seconds: float, what: str) -> None:
        """Wait while the system runs. Raises DrillFailed."""
        until(condition, seconds, what, self.check)

    def hold(self, seconds: float) -> None:
        """Let it run. Raises DrillFailed when a part ends meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """SIGKILL to a part; it stays dead until `revive`."""
        self._down.add(name)
        self.parts[name].kill()
        self.timeline.note(Kind.FAULT, f"{name} is killed (SIGKILL)")

    def revive(self, name: str) -> None:
        """Start a part again, and wait for it."""
        self._start(name)
        self.timeline.note(Kind.PROCESS, f"{name} is back")

    def promote(self, bundle: Path, why: str) -> str:
        """Give a bundle all traffic by hand, past the machine's checks; returns its digest. The one that served stays warm."""
        with self.journal.hold():  # before the machine can offer it as a candidate
            version = self.store.add(bundle)
            digest = self.store.verified(version).digest
            now, state = datetime.now(UTC), self.journal.state
            changes = {"phase": Phase.PROMOTED, "since": now, "stable": digest, "last_good": state.stable}
            promoted = Release.model_validate(state.model_dump() | changes)
            self.journal.append(
                Decision(next=promoted, reason=f"promoted by hand, past all checks: {why}", by=BY_HAND), now
            )
        return digest

    def offer(self, bundle: Path) -> str:
        """Put a bundle into the store, as `deploy` does; the machine takes it for the candidate. Returns its digest."""
        return self.store.verified(self.store.add(bundle)).digest

    def webhook(self, *alerts: dict[str, Any]) -> int:
        """Tell the release machine alerts as Alertmanager does (webhook, version 4); the status it answers."""
        answer = httpx.post(
            f"{self.admin}/alerts",
            json={"version": "4", "alerts": list(alerts)},
            headers={"authorization": f"Bearer {self.token}"},
            timeout=10,
            trust_env=False,
        )
        return answer.status_code

    def series(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers to a query now; empty while it is down."""
        found = self._ask_prometheus("query", query=query)
        return [] if found is None else list(found["result"])

    def _ask_prometheus(self, path: str, **parameters: str) -> dict[str, Any] | None:
        """Data of its answer; None while it is down, comes up or goes down, which a drill may have wanted."""
        try:
            answer = httpx.get(
                f"{self._url('prometheus')}/api/v1/{path}", params=parameters, timeout=5, trust_env=False
            )
            answer.raise_for_status()
        except httpx.HTTPError:
            return None
        data: dict[str, Any] = answer.json()["data"]
        return data

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _described(self, policy: Mapping[str, str]) -> dict[str, Process]:
        self._down = {"release", "quality", "alertmanager", "prometheus"}
        logs, port = self.folder / "logs", self._ports
        live = {
            "live.attribution_seconds": f"{shortened_rules.ATTRIBUTION_SECONDS:g}",
            "live.lateness_seconds": f"{shortened_rules.LATENESS_SECONDS:g}",
            "live.windows_seconds": f"[{shortened_rules.WINDOW_SECONDS:g}]",
        }
        set_live = [word for name, value in live.items() for word in ("--set", f"{name}={value}")]
        held = {"p99_ms": f"{shortened_rules.CANDIDATE_P99_MS:g}", **policy}
        clicks = str(self.folder / "clicks")
        release = clickmill(
            "release", "run", str(self.store.root), "--home", str(self.home), "--clicks", clicks,
            "--port", str(port["door"]), "--admin-port", str(port["admin"]), "--every", "1",
            *[word for name, value in held.items() for word in ("--set", f"release.{name}={value}")], *set_live,
        )  # fmt: skip
        quality = clickmill(
            "monitor", "quality", "--log", str(self.home / "log"), "--clicks", clicks, "--state", str(self.folder / "live.duckdb"),
            "--store", str(self.store.root), "--port", str(port["quality"]), "--every", "1", *set_live,
        )  # fmt: skip
        rules = shortened_rules.write_rules(self.folder / "rules")
        scraped = shortened_rules.prometheus_config(
            rules,
            {"live-quality": port["quality"], "release": port["admin"]},
            {"endpoint": f"{self._url('admin')}/targets"},
            port["alertmanager"],
        )
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(scraped))
        (self.folder / "release-token").write_text(self.token)
        routed = shortened_rules.routes(
            f"{self._url('admin')}/alerts",
            f"{self.pager.url}/people",
            f"{self.pager.url}/dead-man",
            self.folder / "release-token",
        )
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(routed))
        prometheus = [
            "prometheus", f"--config.file={self.folder / 'prometheus.yml'}", f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port['prometheus']}", "--rules.alert.resend-delay=2s", "--log.level=warn",
        ]  # fmt: skip
        alertmanager = [
            "prometheus-alertmanager", f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}", f"--web.listen-address=127.0.0.1:{port['alertmanager']}", "--cluster.listen-address=",
        ]  # fmt: skip
        parts = {
            "release": Process(
                "release", release, logs / "release.log", ready=f"{self._url('admin')}/release",
                environment={"CLICKMILL_ALERT_TOKEN": self.token, "TF_CPP_MIN_LOG_LEVEL": "2"},
            ),
            "quality": Process("quality", quality, logs / "quality.log", ready=f"{self._url('quality')}/metrics"),
            "alertmanager": Process(
                "alertmanager", alertmanager, logs / "alertmanager.log", ready=f"{self._url('alertmanager')}/-/ready"
            ),
            "prometheus": Process("prometheus", prometheus, logs / "prometheus.log", ready=f"{self._url('prometheus')}/-/ready"),
        }  # fmt: skip
        return {name: part for name, part in parts.items() if self._alerting or name not in ALERTING}

    def _come_up(self) -> None:
        self._start("release")
        self.until(self._door_answers, HEALTHY_SECONDS, "answer at the door")
        (self.home / "log").mkdir(exist_ok=True)
        self.callers.start()
        for name in reversed(self.parts):
            if name != "release":
                self._start(name)
        self._watcher.start()
        self._pulse.start()
        run = "Prometheus and Alertmanager run" if self._alerting else "and no Prometheus or Alertmanager run"
        self.timeline.note(
            Kind.PROCESS, f"release machine, router, server, live quality, {run}; callers ask and click"
        )
        if self._alerting:
            good, words = self._recorded_as_good, "NE and calibration as on its test data"
        else:
            good, words = self._calibrated, "as many clicks come as it predicts"
        self.until(good, HEALTHY_SECONDS, "proof that the first bundle is good")
        self.timeline.note(Kind.PROCESS, f"bundle {self.release.stable[:12]} is seen to be good: {words}")

    def _start(self, name: str) -> None:
        self.parts[name].start()
        self._down.discard(name)

    def _door_answers(self) -> bool:
        with suppress(httpx.TransportError):
            return (
                httpx.get(f"{self._url('door')}/v2/health/ready", timeout=2, trust_env=False).status_code
                == 200
            )
        return False

    def _calibrated(self) -> bool:
        """What the rules ask of a bundle before they call it good, but for the width of the interval."""
        figures = self._live_figures().get(self.release.stable[:12], {})
        return (
            figures.get(names.LIVE_CLICKS, 0) >= CLICKS
            and figures[names.LIVE_CALIBRATION_LOW] <= 1 <= figures[names.LIVE_CALIBRATION_HIGH]
        )

    def _recorded_as_good(self) -> bool:
        return bool(
            self.series(
                "bundle:clickmill_live_calibration:good == 1 and on (bundle) bundle:clickmill_live_ne:good == 1"
            )
        )

    def _watch(self) -> None:
        looked = 0.0
        while not self._stop.wait(LOOK_SECONDS):
            self._read_journal()
            if self._alerting:
                self._ask_for_alerts()
            self.pager.listen_for_silence()
            if time.time() - looked >= 1.0:
                looked = time.time()
                self._read_figures()

    def _feel_pulse(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(PULSE_SECONDS):
            now = time.monotonic()
            self.timeline.longest_pause = max(self.timeline.longest_pause, now - last - PULSE_SECONDS)
            last = now

    def _read_journal(self) -> None:
        entries = self.journal.entries
        for entry in entries[self._lines :]:
            state = entry.state
            where = str(state.phase) + (f" at {state.percent} %" if state.percent else "")
            words = f"{entry.by}: {where}: {entry.reason}"
            self.timeline.note(
                Kind.DECISION, words, at=entry.at.timestamp(), name=state.phase, bundle=state.stable[:12]
            )
        self._lines = len(entries)

    def _ask_for_alerts(self) -> None:
        """Rules that fire, each noted once while it does; its time is that of the look before, when it did not yet."""
        found = self._ask_prometheus("alerts")
        if found is None:
            return
        now: dict[str, float] = {}
        for alert in found["alerts"]:
            labels = alert["labels"]
            if alert["state"] != "firing" or labels["alertname"] == "Watchdog":
                continue
            key = json.dumps(labels, sort_keys=True)
            now[key] = self._firing.get(key, time.time())
            if key not in self._firing:
                self.timeline.note(
                    Kind.ALERT,
                    f"{labels['alertname']} fires: {alert['annotations']['summary']}",
                    at=time.time() - LOOK_SECONDS,
                    name=labels["alertname"],
                    action=labels.get("action", ""),
                    bundle=labels.get("bundle", ""),
                )
        self._firing = now

    def _read_figures(self) -> None:
        for bundle, figures in self._live_figures().items():
            with suppress(KeyError):  # not judged yet: figures appear from 20 clicks on
                self.timeline.figures.append(
                    Figure(
                        time.time(), bundle, figures[names.LIVE_CALIBRATION], figures[names.LIVE_CALIBRATION_LOW],
                        figures[names.LIVE_CALIBRATION_HIGH], figures.get(names.LIVE_NE),
                    )
                )  # fmt: skip

    def _live_figures(self) -> dict[str, dict[str, float]]:
        """What live quality says of each bundle, by the name of the metric; empty while it is down."""
        found: dict[str, dict[str, float]] = {}
        with suppress(httpx.TransportError):
            text = httpx.get(f"{self._url('quality')}/metrics", timeout=5, trust_env=False).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if names.BUNDLE in sample.labels and sample.labels.get(names.FIELD) == "":
                        found.setdefault(sample.labels[names.BUNDLE], {})[sample.name] = sample.value
        return found


__all__ = ["DrillFailed", "Site"]
