"""An endpoint as a child process: started on free ports, waited for, stopped. For tests, the demo and the bench."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from clickmill.errors import ClickmillError
from serving.ports import claim

_RUN = "import json, sys; from serving.server import serve; serve(**json.loads(sys.argv[1]))"
_ROOT = Path(__file__).resolve().parent.parent


class EndpointFailed(ClickmillError):
    """The child process ended, or was not ready in time; the message carries the end of its log."""


@dataclass
class Endpoint:
    """A running endpoint."""

    url: str
    grpc_target: str
    model_name: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self, seconds: float = 180.0) -> None:
        """Return when it would answer a prediction. Raises EndpointFailed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise EndpointFailed(
                    f"the endpoint ended with exit status {self.process.returncode}:\n{self._tail()}"
                )
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/v2/health/ready", timeout=2.0, trust_env=False).status_code == 200:
                    return
            time.sleep(0.05)
        raise EndpointFailed(f"the endpoint was not ready within {seconds:g} s:\n{self._tail()}")

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, then SIGKILL when it has not ended in time; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def _tail(self) -> str:
        return "\n".join(self.log.splitlines()[-20:])


@contextlib.contextmanager
def running_server(
    path: str | Path,
    *,
    model_name: str,
    wait_seconds: float = 180.0,
    wait: bool = True,
    log_path: Path | None = None,
    python: str = _RUN,
    **options: Any,
) -> Iterator[Endpoint]:
    """Serve `path` in a child process for the length of a `with`.

    `options` are further arguments of `serving.server.serve` that JSON can carry; ports not given are free ones. With
    `wait` the body runs when the endpoint is ready (importing TensorFlow takes 5 s, on a busy machine ten times that). `python` is the child's program; it gets the arguments as JSON.
    """
    import json

    host = str(options.setdefault("host", "127.0.0.1"))
    for option in ("http_port", "grpc_port"):
        options[option] = options.get(option) or claim(host, 0, f"--{option.replace('_', '-')}")
    arguments = json.dumps({"path": str(path), "model_name": model_name, **options})
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with contextlib.ExitStack() as stack:
        if log_path is None:
            log_path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "endpoint.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", python, arguments], stdout=log, stderr=log, env=environment
            )
        url, target = f"http://{host}:{options['http_port']}", f"{host}:{options['grpc_port']}"
        endpoint = Endpoint(url, target, model_name, process, log_path)
        try:
            if wait:
                endpoint.wait_until_ready(wait_seconds)
            yield endpoint
        finally:
            endpoint.stop()
