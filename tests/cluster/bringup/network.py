"""The node's bridge and forwarding, and the removal of every rule and interface that the cluster leaves behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from . import places as where
from .places import Places

__all__ = ["clean_network", "set_up_network"]

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_OURS = re.compile(r"\b(KUBE|CNI)-")


def set_up_network(at: Places) -> None:
    """Make the bridge before anything starts: the API server advertises its address, and no dummy device is needed."""
    if not _has_bridge():
        _ip("link", "add", where.BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{where.GATEWAY}/16", "dev", where.BRIDGE)
    _ip("link", "set", where.BRIDGE, "up")
    remembered = at.state / "ip_forward"
    if not remembered.exists():
        remembered.write_text(_FORWARD.read_text())
    if _FORWARD.read_text().strip() != "1":
        _FORWARD.write_text("1")


def clean_network(at: Places) -> None:
    """Remove the chains of kube-proxy, kubelet and the network plugin, the bridge, and forwarding where it was off."""
    _clean_rules()
    if _has_bridge():
        _ip("link", "del", where.BRIDGE)
    remembered = at.state / "ip_forward"
    if remembered.exists() and remembered.read_text().strip() == "0":
        _FORWARD.write_text("0")


def leftovers() -> list[str]:
    """Rules and interfaces of the cluster that are still there."""
    found = [line for line in _saved().splitlines() if _OURS.search(line)]
    return found + ([where.BRIDGE] if _has_bridge() else [])


def _clean_rules() -> None:
    """Everything but our chains, and rules that jump to them, is put back as it is, in one step."""
    saved = _saved()
    kept = [line for line in saved.splitlines() if not _OURS.search(line)]
    if len(kept) != len(saved.splitlines()):
        subprocess.run(["iptables-restore"], input="\n".join(kept) + "\n", text=True, check=True)


def _saved() -> str:
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def _has_bridge() -> bool:
    return Path(f"/sys/class/net/{where.BRIDGE}").exists()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
