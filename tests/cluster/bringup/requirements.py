"""What this machine must have before a cluster can be brought up on it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .places import Places
from .programs import missing

__all__ = ["obstacle"]

_PROGRAMS = {
    "kubectl": "kubernetes-client",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables-save": "iptables",
    "conntrack": "conntrack",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
"""Program: Debian's package."""


def obstacle(at: Places) -> str | None:
    """Why no cluster can run here, in words that say what to do; None when it can."""
    if sys.platform != "linux":
        return "a node needs Linux; docs/kubernetes.md has the same with kind"
    if os.geteuid() != 0:
        return (
            "needs root (containerd, network namespaces, iptables); docs/kubernetes.md has the same with kind"
        )
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    absent = {package for name, package in _PROGRAMS.items() if not shutil.which(name, path=path)}
    if not Path("/usr/lib/cni/bridge").exists():
        absent.add("containernetworking-plugins")
    if absent:
        return f"needs programs that are not installed: apt-get install --no-install-recommends {' '.join(sorted(absent))}"
    if not Path("/sys/fs/cgroup/memory").exists() and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "needs cgroups, and none are mounted at /sys/fs/cgroup"
    if missing(at.cache) and not shutil.which("go"):
        return "needs Go, to build Kubernetes, etcd and KServe once"
    return None
