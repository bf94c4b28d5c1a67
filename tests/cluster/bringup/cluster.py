"""The whole cluster: up in the order of its parts, down to the last mount and rule."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import network
from .control_plane import start_control_plane
from .dns import start_dns
from .images import import_images
from .kserve import start_kserve
from .metrics_server import start_metrics_server
from .node import ctr, start_containerd, start_node
from .places import Places
from .processes import ClusterError, recorded, running, stop, tail
from .programs import build

__all__ = ["down", "leftovers", "up"]


_STARTERS = ("kubelet", "kserve-manager", "metrics-server", "kube-controller-manager", "kube-scheduler")
_SERVERS = ("kube-proxy", "coredns", "kube-apiserver", "etcd", "containerd")


def up(at: Places) -> None:
    """Build what the cache lacks, then start everything; returns when the node is Ready and KServe answers.

    What an earlier start left behind is taken down first. Raises ClusterError and CalledProcessError, and then leaves
    the parts that run, for a look at their logs.
    """
    step = _Steps()
    down(at)
    build(at.cache)
    step("programs")
    at.state.mkdir(parents=True)
    network.set_up_network(at)
    start_containerd(at)
    authority = start_control_plane(at)
    step("control plane")
    import_images(at)
    step("images")
    start_node(at, authority)
    step("node ready")
    start_dns(at, authority)
    start_metrics_server(at, authority)
    start_kserve(at, authority)
    step("KServe")
    for name in recorded(at):
        if running(at, name) is None:
            raise ClusterError(f"{name} has ended:\n{tail(at, name)}")
    at.up.touch()


def down(at: Places) -> None:
    """Stop and remove everything but the caches. What is not there is fine."""
    at.up.unlink(missing_ok=True)
    # first what would start pods again; etcd after those that wait for it
    for name in _STARTERS:
        stop(at, name)
    if running(at, "containerd"):
        _remove_pods(at)
    for name in [*_SERVERS, *recorded(at)]:
        stop(
            at, name, seconds=3
        )  # nothing of theirs is kept, and the API server would wait a minute for its watchers
    for mount in _mounts_below(at.state, at.run):
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
    network.clean_network(at)
    at.kubeconfig.unlink(missing_ok=True)
    for folder in (at.state, at.run):
        if folder.exists():
            shutil.rmtree(folder)


def leftovers(at: Places) -> list[str]:
    """What of the cluster is still there: processes, mounts, rules, interfaces, network namespaces."""
    found = network.leftovers()
    found += [f"mount {mount}" for mount in _mounts_below(at.cache, at.run)]
    found += [f"process {line}" for line in _processes_of(at)]
    return found


def _remove_pods(at: Places) -> None:
    """End every container and take back what the runtime made for it: its task, its snapshot, its network namespace."""
    namespaces = set()
    for container in ctr(at, "containers", "list", "--quiet").split():
        namespaces |= _network_of(at, container)
        for words in (
            ("tasks", "kill", "--signal", "SIGKILL", container),
            ("tasks", "delete", "--force", container),
            ("containers", "delete", container),
        ):
            done = subprocess.run(
                ["ctr", "--address", str(at.containerd), "--namespace", "k8s.io", *words],
                capture_output=True,
                text=True,
            )
            if done.returncode and "not found" not in done.stderr:
                print(f"{' '.join(words)}: {done.stderr.strip()}", file=sys.stderr)
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


def _network_of(at: Places, container: str) -> set[str]:
    import json

    spec = json.loads(ctr(at, "containers", "info", container))["Spec"]
    paths = (n.get("path", "") for n in spec["linux"]["namespaces"] if n["type"] == "network")
    return {
        Path(path).name
        for path in paths
        if "/netns/cni-" in path and Path("/run/netns", Path(path).name).exists()
    }


def _mounts_below(*folders: Path) -> list[Path]:
    """Deepest first."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = {p for p in points if any(p.is_relative_to(folder) for folder in folders)}
    return sorted(below, key=lambda p: len(p.parts), reverse=True)


def _processes_of(at: Places) -> list[str]:
    """Those whose program or arguments are below the cluster's folders."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(place) in word for word in words for place in (at.bin, at.state, at.run)):
            found.append(f"{folder.name} {' '.join(words)[:120]}")
    return found


class _Steps:
    """Tells what is done and how long it took."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        said = f"{now - self._begun:6.1f} s  {what} ({now - self._last:.1f} s)"
        print(said, file=sys.stderr, flush=True)
        self._last = now
