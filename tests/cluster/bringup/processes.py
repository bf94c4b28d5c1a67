"""Long-running processes of the cluster: started apart from the shell, found again by their record, stopped by their id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .places import Places

__all__ = [
    "ClusterError",
    "recorded",
    "restart",
    "running",
    "signal_process",
    "start",
    "stop",
    "tail",
    "wait_for",
]


class ClusterError(RuntimeError):
    """The cluster, or a part of it, did not do what it was told in time."""


def start(
    at: Places,
    name: str,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Start `command` in a session of its own with its output in `logs/NAME.log`; remember its id and how it was started."""
    at.logs.mkdir(parents=True, exist_ok=True)
    argv = [str(word) for word in command]
    with (at.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    record = {
        "pid": process.pid,
        "born": _born(process.pid),
        "command": argv,
        "environment": dict(environment or {}),
    }
    path = _record(at, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def restart(at: Places, name: str, seconds: float = 60.0) -> None:
    """Stop the process and start it with the same words."""
    record = json.loads(_record(at, name).read_text())
    stop(at, name, seconds)
    start(at, name, record["command"], environment=record["environment"])


def running(at: Places, name: str) -> int | None:
    """Id of the process, or None when it has ended or never was. A foreign process with the same id is not taken for it."""
    try:
        record = json.loads(_record(at, name).read_text())
    except FileNotFoundError:
        return None
    pid = record["pid"]
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that has ended would stay as a zombie
    return pid if record["born"] is not None and _born(pid) == record["born"] else None


def signal_process(at: Places, name: str, number: int) -> None:
    """Send a signal. Raises ClusterError when it does not run."""
    pid = running(at, name)
    if pid is None:
        raise ClusterError(f"{name} does not run:\n{tail(at, name)}")
    os.kill(pid, number)


def stop(at: Places, name: str, seconds: float = 20.0) -> None:
    """SIGTERM, after `seconds` SIGKILL; returns when it is gone."""
    pid = running(at, name)
    if pid is not None:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while running(at, name) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    _record(at, name).unlink(missing_ok=True)


def recorded(at: Places) -> list[str]:
    """Names of all that were started and not stopped."""
    return sorted(path.stem for path in _record(at, "x").parent.glob("*.json"))


def wait_for(what: str, condition: Callable[[], object], seconds: float = 120.0, every: float = 0.1) -> None:
    """Return when `condition` is true. Raises ClusterError with its last error."""
    deadline = time.monotonic() + seconds
    problem: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            problem = error
        time.sleep(every)
    said = getattr(problem, "stderr", None)
    raise ClusterError(
        f"waited {seconds:g} s for {what}" + (f"; last: {problem} {said or ''}" if problem else "")
    )


def tail(at: Places, name: str, lines: int = 15) -> str:
    """The end of its log."""
    path = at.logs / f"{name}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def _record(at: Places, name: str) -> Path:
    return at.state / "processes" / f"{name}.json"


def _born(pid: int) -> int | None:
    """Start of the process in clock ticks since boot, None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
