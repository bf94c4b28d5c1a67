"""An endpoint with real pods whose bundles come and go: the chart with operator and router, Prometheus and Alertmanager beside the node.

Pods, KServe, router, operator, Prometheus, Alertmanager and callers are real. Clicks are not: what live quality would count of each
bundle's impressions is made up here (`Labels`), since nobody looks at ads on a test's cluster.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clickmill import bundle as bundles
from clickmill import metric_names as names
from serving.rows import example_row
from tests.cluster.bringup import Places, apply, wait_for
from tests.cluster.bringup.places import GATEWAY
from tests.cluster.installation import (
    ROOT,
    Installation,
    readable_by_pods,
    remove_namespace,
    restricted_namespace,
)
from tests.cluster.operator_process import free_port, prometheus_of
from tests.serving.small_bundle import CONTRACT
from tests.serving.twin_bundle import write_twin_bundle

TOKEN = "told-to-alertmanager"
BIASES = {"a": 0.0, "b": 0.01, "c": 0.02, "d": 0.03}
POLICY = {
    "shadow": True,
    "steps": [25, 50, 100],
    "stepSeconds": 5,
    "minRequests": 200,
    "coolDownSeconds": 0,
    "p99Ms": 5000,  # two cores do all of this at once: a promise of milliseconds would be about them
}

# By impression of a bundle that predicts as many clicks as come.
WELL = {"impressions": 1.0, "clicks": 0.05, "pctr": 0.05, "residual_squares": 0.0475, "log_loss": 0.1985, "log_loss_squares": 0.45}  # fmt: skip
PAIR = {"worse": 0.01, "better": 0.01, "squares": 0.001}


class Labels:
    """Stands for `clickmill monitor quality`: 5,000 impressions a second of each bundle, judged at once. `over` predict three times the clicks."""

    def __init__(self, namespace: str, digests: list[str]) -> None:
        self._namespace, self._digests = namespace, [digest[:12] for digest in digests]
        self._begun = time.monotonic()
        self.over: dict[str, float] = {}
        """First digits of a digest to when it began to."""

    def text(self) -> str:
        """As Prometheus scrapes it."""
        now = time.monotonic()
        lines = [f'{names.LIVE_RIPENING}{{namespace="{self._namespace}"}} 1']
        for digest in self._digests:
            where = f'bundle="{digest}",namespace="{self._namespace}"'
            for field, series in names.JUDGED:
                value = 5000 * (now - self._begun) * WELL[field]
                if field == "pctr" and digest in self.over:
                    value += 5000 * (now - self.over[digest]) * WELL[field] * 2
                lines.append(f"{series}_total{{{where}}} {value}")
            for other in self._digests:
                for field, series in names.PAIRED:
                    value = 5000 * (now - self._begun) * PAIR[field]
                    lines.append(f'{series}_total{{{where},beside="{other}"}} {value}')
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Rollout:
    """The endpoint `ctr`, with its ModelRelease."""

    installed: Installation
    digests: dict[str, str]
    """Letter of a bundle to its digest."""
    row: dict[str, Any]
    """A request that is known to work."""
    labels: Labels
    alertmanager: int
    """Its port on this machine."""

    @property
    def url(self) -> str:
        """Where callers ask: the router's Service."""
        return f"{self.installed.url('router')}/v1/models/ctr:predict"

    def release(self, letter: str, **policy: Any) -> None:
        """Name a bundle in the ModelRelease."""
        bundle = {"uri": f"pvc://models/{letter}", "digest": self.digests[letter]}
        spec = {"bundle": bundle, "policy": {**POLICY, **policy}}
        self.installed.kubectl(
            "patch", "modelrelease", "ctr", "--type=merge", f"--patch={json.dumps({'spec': spec})}"
        )

    @property
    def stored(self) -> dict[str, Any]:
        return self.installed.get("modelrelease", "ctr")

    @property
    def stable(self) -> str:
        """Letter of the bundle that serves."""
        return self._letters(self.stored["status"]["release"]["stable"]).pop()

    @property
    def warm(self) -> set[str]:
        """Letter of the one that is kept for a rollback, if there is one."""
        return self._letters(self.stored["status"]["release"].get("lastGood"))

    def _letters(self, wanted: str | None) -> set[str]:
        return {letter for letter, digest in self.digests.items() if digest == wanted}

    def at(self, phase: str, stable: str, percent: int | None = None) -> bool:
        """Whether the release stands there."""
        state = self.stored.get("status", {}).get("release", {})
        return (
            state.get("phase") == phase
            and state.get("stable") == self.digests[stable]
            and percent in (None, state.get("percent"))
        )

    def until(self, phase: str, stable: str, percent: int | None = None, seconds: float = 600.0) -> None:
        """Return when it stands there. Raises ClusterError, and tells the status."""
        try:
            wait_for(f"{phase} {stable} {percent}", lambda: self.at(phase, stable, percent), seconds, 0.5)
        except Exception as error:
            error.add_note(json.dumps(self.stored.get("status", {}), indent=1)[:6000])
            raise

    @property
    def shares(self) -> dict[str, int]:
        """Service to percent, as the ConfigMap has it."""
        return dict(json.loads(self.installed.get("configmap", "ctr-shares")["data"]["shares"])["percent"])

    def settled(self, letter: str, beside: set[str], seconds: float = 600.0) -> None:
        """Return when home has the bundle and all traffic, with the InferenceServices beside it that should be."""

        def reached() -> bool:
            found = {
                each["metadata"]["name"]: each for each in self.installed.get("inferenceservices")["items"]
            }
            home = found.pop("ctr")["spec"]["predictor"]["model"]["storageUri"]
            return (
                home == f"pvc://models/{letter}"
                and set(found) == {self.beside(each) for each in beside}
                and self.shares == {"ctr-predictor": 100}
            )

        wait_for(f"{letter} at home", reached, seconds, 1.0)

    def beside(self, letter: str) -> str:
        """Name of the InferenceService that the operator makes for a bundle."""
        return f"ctr-{self.digests[letter][:10]}"

    def available(self, name: str = "ctr-predictor") -> int:
        """Pods of a Deployment that answer."""
        return int(self.installed.get("deployment", name)["status"].get("availableReplicas", 0))

    def alert(self, letter: str, *, resolved: bool = False) -> None:
        """An alert about a bundle, told to Alertmanager as Prometheus tells it."""
        alert: dict[str, Any] = {
            "labels": {
                "alertname": "CalibrationRatioHigh",
                "action": "rollback",
                "bundle": self.digests[letter][:12],
            },
            "annotations": {"summary": "predicts three times the clicks"},
        }
        if resolved:
            alert["endsAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "--json", json.dumps([alert])]
        subprocess.run(
            [*command, f"http://127.0.0.1:{self.alertmanager}/api/v2/alerts"], check=True, timeout=30
        )


@contextmanager
def rolled_out(at: Places, folder: Path, namespace: str) -> Iterator[Rollout]:
    """Installed with bundle `a`, adopted by its ModelRelease, and settled. Nothing is left of it."""
    models = at.cache / "models" / namespace
    digests = {}
    for letter, bias in BIASES.items():
        digests[letter] = bundles.verify(write_twin_bundle(models / letter, bias=bias)).digest
    readable_by_pods(models)
    labels = Labels(namespace, list(digests.values()))
    installed = Installation(at, namespace, "ctr", models / "a")
    with ExitStack() as stack:
        port = stack.enter_context(_served(labels))
        scraped = (
            f'{{job_name: labels, honor_labels: true, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}'
        )
        port = stack.enter_context(prometheus_of(folder, scraped, _pods_of(at, namespace), host="0.0.0.0"))
        stack.callback(remove_namespace, at, namespace)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "alerts", "namespace": namespace},
            "stringData": {"token": TOKEN},
        }
        apply(at, [*restricted_namespace(namespace, {"models": models}), secret])
        values = folder / "values.yaml"
        values.write_text(yaml.safe_dump(_values(port)))
        installed.helm("install", "ctr", str(ROOT / "helm/clickmill"), f"--values={values}", seconds=120)
        installed.wait_for_pods(2)
        installed.wait_until_ready()
        for deployment in ("ctr-router", "ctr-operator"):
            installed.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=300s", seconds=310)
        installed.wait_for_answer("router")
        service = installed.get("service", "ctr-operator")["spec"]["clusterIP"]
        told = stack.enter_context(_alertmanager(folder, f"http://{service}:9095/alerts"))
        found = Rollout(installed, digests, example_row(models / "a", CONTRACT.inputs), labels, told)
        apply(at, [_model_release(namespace, digests["a"])])
        found.until("promoted", "a")
        found.settled("a", set())
        yield found
        installed.kubectl("delete", "modelrelease", "ctr", "--timeout=300s", seconds=310)


def _values(prometheus: int) -> dict[str, Any]:
    small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    return {
        "endpoint": {"storageUri": "pvc://models/a"},
        "images": {"registry": "localhost", "pullPolicy": "Never"},
        # Shedding and deadlines are about a machine's speed; here they would hide what routing loses.
        "predictor": {
            "replicas": {"min": 2, "max": 2},
            "threads": 1,
            "drainSeconds": 5,
            "args": ["--shed-wait-ms=0"],
            "resources": small,
        },
        "ranker": {"enabled": False},
        "router": {"enabled": True, "resources": small, "args": ["--timeout-seconds=20"]},
        "autoscaling": {"class": "none"},
        "operator": {
            "replicas": 1,
            "alertTokenSecretName": "alerts",
            "args": ["--every=1"],
            "resources": small,
        },
        "monitoring": {"prometheusUrl": f"http://{GATEWAY}:{prometheus}"},
    }


def _model_release(namespace: str, digest: str) -> dict[str, Any]:
    return {
        "apiVersion": "clickmill.dev/v1alpha1",
        "kind": "ModelRelease",
        "metadata": {"name": "ctr", "namespace": namespace},
        "spec": {
            "bundle": {"uri": "pvc://models/a", "digest": digest},
            "target": {
                "inferenceService": "ctr",
                "route": {"by": "Router", "graceSeconds": 5},
                "readySeconds": 300,
            },
            "policy": POLICY,
        },
    }


def _pods_of(at: Places, namespace: str) -> str:
    """Scrape config: every pod of the namespace by its port `http` or `metrics`, as the chart's PodMonitor has it."""
    return json.dumps(
        {
            "job_name": "pods",
            "kubernetes_sd_configs": [
                {
                    "role": "pod",
                    "kubeconfig_file": str(at.kubeconfig),
                    "namespaces": {"names": [namespace]},
                }
            ],
            "relabel_configs": [
                {
                    "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                    "regex": "http|metrics",
                    "action": "keep",
                },
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            ],
        }
    )


@contextmanager
def _alertmanager(folder: Path, receiver: str) -> Iterator[int]:
    """Port of a real one whose only receiver is the operator."""
    port = free_port()
    credentials = {"authorization": {"credentials": TOKEN}}
    config = {
        "route": {"receiver": "release", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1m"},
        "receivers": [
            {"name": "release", "webhook_configs": [{"url": receiver, "http_config": credentials}]}
        ],
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    with (folder / "alertmanager.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "prometheus-alertmanager",
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _served(labels: Labels) -> Iterator[int]:
    """Port on which Prometheus finds them."""

    class Scraped(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(labels.text().encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scraped)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
