"""kubectl as the cluster's administrator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from .places import Places

__all__ = ["apply", "get", "kubectl", "kubectl_ok"]


def kubectl(at: Places, *words: str, stdin: str | None = None, seconds: float = 60.0) -> str:
    """Its standard output. Raises subprocess.CalledProcessError with `stderr`."""
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={at.kubeconfig}", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds,
    )
    return done.stdout


def kubectl_ok(at: Places, *words: str) -> bool:
    """Whether it ended well."""
    try:
        kubectl(at, *words)
    except subprocess.CalledProcessError:
        return False
    return True


def get(at: Places, *words: str) -> dict[str, Any]:
    """`kubectl get ... -o json`, read."""
    return json.loads(kubectl(at, "get", *words, "--output=json"))


def apply(at: Places, objects: Sequence[Mapping[str, Any]]) -> None:
    """Apply objects on the server's side, so that large CRDs fit (no copy of them in an annotation)."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl(
        at,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=clickmill-bringup",
        "--filename=-",
        stdin=text,
        seconds=120,
    )
