"""The chart, installed on a real bundle into a namespace that enforces the restricted Pod Security Standard."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from clickmill.bundle import Store
from monitoring.drills import good_bundle
from tests.cluster.bringup import Places, apply, get, kubectl, wait_for

ROOT = Path(__file__).parents[2]

VALUES: dict[str, Any] = {
    "images.registry": "localhost",
    "images.pullPolicy": "Never",
    "endpoint.storageUri": "pvc://models/store",
    "predictor.replicas.min": 1,
    "predictor.replicas.max": 2,
    "predictor.threads": 1,
    "predictor.drainSeconds": 5,
    "predictor.resources.requests.cpu": "50m",
    "predictor.resources.requests.memory": "256Mi",
    "predictor.resources.limits.cpu": "1",
    "ranker.replicas.min": 1,
    "ranker.replicas.max": 1,
    "ranker.resources.requests.cpu": "20m",
    "ranker.resources.requests.memory": "128Mi",
    # releases are test_rollout's
    "operator.enabled": "false",
}
"""What differs from the chart's defaults: small enough for two cores."""


@dataclass(frozen=True)
class Installation:
    """A release of the chart."""

    at: Places
    namespace: str
    name: str
    bundle: Path

    def kubectl(self, *words: str, **options: Any) -> str:
        return kubectl(self.at, "--namespace", self.namespace, *words, **options)

    def get(self, *words: str) -> dict[str, Any]:
        return get(self.at, "--namespace", self.namespace, *words)

    def helm(self, *words: str, seconds: float = 300.0) -> str:
        """Its standard output. Raises subprocess.CalledProcessError with `stderr`."""
        command = [str(self.at.bin / "helm"), "--namespace", self.namespace, *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "KUBECONFIG": str(self.at.kubeconfig)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def set(self, command: str, **changed: Any) -> None:
        """`helm install` or `helm upgrade` with VALUES and what is changed (`predictor__replicas__min=2`)."""
        values = VALUES | {key.replace("__", "."): value for key, value in changed.items()}
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        self.helm(command, self.name, str(ROOT / "helm/clickmill"), *words)

    def url(self, component: str = "predictor") -> str:
        """By the ClusterIP of its Service."""
        service = self.get("service", f"{self.name}-{component}")["spec"]
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}"

    def ready_pods(self, component: str = "predictor") -> list[str]:
        """Names of pods that are ready and not on their way out."""
        selector = f"serving.kserve.io/inferenceservice={self.name},component={component}"
        return [
            pod["metadata"]["name"]
            for pod in self.get("pods", "--selector", selector)["items"]
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])
            )
        ]

    def wait_for_pods(self, count: int, seconds: float = 300.0, *, component: str = "predictor") -> None:
        """Return when just so many pods are ready. Raises ClusterError."""
        wait_for(
            f"{count} ready pods of the {component}",
            lambda: len(self.ready_pods(component)) == count,
            seconds,
            every=1.0,
        )

    def wait_for_answer(self, component: str = "predictor", seconds: float = 60.0) -> None:
        """Return when its Service leads to a pod: kube-proxy writes its rules some time after a pod is ready."""
        url = f"{self.url(component)}/v2/health/ready"

        def answers() -> bool:
            try:
                return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(url, answers, seconds)

    def wait_until_ready(self, seconds: float = 300.0) -> None:
        """Return when KServe says so. Raises ClusterError with the pods' own words."""

        def ready() -> bool:
            found = self.get("inferenceservice", self.name).get("status", {}).get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in found)

        wait_for("the InferenceService to be Ready", ready, seconds, every=1.0)


def install(at: Places, namespace: str, name: str = "ctr") -> Installation:
    """Namespace, a volume with a bundle of the project's own training, and the chart. Returns before anything is ready."""
    bundle = good_bundle(at.cache / "trained", ROOT / "contracts" / "world.yaml", print)
    folder = at.cache / "models" / namespace
    shutil.rmtree(folder, ignore_errors=True)
    Store(folder / "store").add(bundle)
    release = Installation(at, namespace, name, bundle)
    apply(at, restricted_namespace(namespace, {"models": folder}))
    release.set("install")
    return release


def uninstall(release: Installation) -> None:
    """Remove everything that `install` made."""
    release.helm("uninstall", release.name, "--wait")
    remove_namespace(release.at, release.namespace)
    shutil.rmtree(release.at.cache / "models" / release.namespace)


def restricted_namespace(namespace: str, claims: dict[str, Path]) -> list[dict[str, Any]]:
    """A namespace that holds restricted pods only, with these claims, each on a folder of this machine."""
    enforce = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    found = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": enforce}}]
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    for claim, folder in claims.items():
        name = f"{claim}-{namespace}"
        volume = {
            **common,
            "capacity": size,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": str(folder), "type": "Directory"},
        }
        wanted = {**common, "volumeName": name, "resources": {"requests": size}}
        labels = {"clickmill.dev/test": namespace}
        found += [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name, "labels": labels},
                "spec": volume,
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": namespace},
                "spec": wanted,
            },
        ]
    return found


def remove_namespace(at: Places, namespace: str) -> None:
    """With its volumes. What is not there is fine."""
    kubectl(at, "delete", "namespace", namespace, "--ignore-not-found", "--timeout=180s", seconds=190)
    kubectl(at, "delete", "persistentvolume", f"--selector=clickmill.dev/test={namespace}", "--wait=false")


def readable_by_pods(folder: Path) -> None:
    """Pods read it as another user."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
