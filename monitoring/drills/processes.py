"""Programs that a drill starts, kills and starts again, and that never outlive it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from clickmill.errors import ClickmillError

_OWN_PORTS = range(10_240, 32_768)
"""Below those that Linux gives to outgoing connections, one of which would sooner or later take a port between choosing and binding it."""


class DrillFailed(ClickmillError):
    """The system under the drill did not come up, or a part of it ended that should not have."""


def free_port() -> int:
    """A port of loopback that nobody has now."""
    while True:
        port = secrets.choice(_OWN_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def installed(program: str) -> bool:
    """Whether a program is on the PATH."""
    return shutil.which(program) is not None


def clickmill(*words: str) -> list[str]:
    """The command line of `clickmill ...` in this Python."""
    return [sys.executable, "-c", "from clickmill.command import main; main()", *words]


class Process:
    """One program: started, killed, started again. In a session of its own, so that Ctrl-C reaches it through us and in order."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        ready: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """ready: URL that answers 200 (or 404: something listens and speaks) once it is up."""
        self.name, self._command, self._log, self._ready = name, command, log, ready
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running program. Raises DrillFailed when there is none."""
        if self._process is None or not self.alive:
            raise DrillFailed(f"{self.name} does not run:\n{self.tail()}")
        return self._process.pid

    def start(self, seconds: float | None = 120.0) -> None:
        """Start it, and wait until it answers; None: don't wait. Raises DrillFailed."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment,
                start_new_session=True,
            )
        if seconds is not None:
            self.wait(seconds)

    def wait(self, seconds: float = 120.0) -> None:
        """Until it answers. Raises DrillFailed with the end of its log."""
        until(self.answers, seconds, f"answer of {self.name}", self.check)

    def answers(self) -> bool:
        """Whether something speaks at its address."""
        try:
            return httpx.get(self._ready, timeout=2.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def check(self) -> None:
        """Raises DrillFailed when it has ended."""
        if not self.alive:
            raise DrillFailed(f"{self.name} has ended by itself:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL, as a machine that fails does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 30.0) -> None:
        """SIGTERM, then SIGKILL for it and all it started."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        try:  # what a killed program left of its own session
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            return

    def tail(self, lines: int = 15) -> str:
        """The end of what it said."""
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(said.splitlines()[-lines:])


def until(
    condition: Callable[[], object], seconds: float, what: str, check: Callable[[], object] = lambda: None
) -> None:
    """Wait for a condition; `check` may raise meanwhile. Raises DrillFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise DrillFailed(f"no {what} within {seconds:g} s")
        time.sleep(0.1)


__all__ = ["DrillFailed", "Process", "clickmill", "free_port", "installed", "until"]
