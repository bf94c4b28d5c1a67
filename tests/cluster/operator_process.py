"""The operator and Prometheus as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.api_server import NAMESPACE, ROOT

ALERT_TOKEN = "told-to-alertmanager"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class OperatorProcess:
    """`clickmill operator run` as people start it."""

    def __init__(self, kubeconfig: Path, prometheus: str, folder: Path, namespace: str = NAMESPACE) -> None:
        self._kubeconfig, self.prometheus, self._folder = kubeconfig, prometheus, folder
        self._namespace = namespace
        self.port, self.alert_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", "from clickmill.command import main; main()", "operator", "run",
                   f"--prometheus={self.prometheus}", f"--namespace={self._namespace}", "--host=127.0.0.1", f"--port={self.port}",
                   f"--alert-port={self.alert_port}", "--every=1"]  # fmt: skip
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig), "CLICKMILL_ALERT_TOKEN": ALERT_TOKEN,
                       "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}  # fmt: skip
        with (self._folder / "operator.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """As a Deployment would; its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def alert(self, body: bytes, token: str = ALERT_TOKEN) -> int:
        """Status of the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.alert_port}/alerts", data=body,
                                         headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"})  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def log(self) -> str:
        return (self._folder / "operator.log").read_text()


@contextmanager
def prometheus(folder: Path, scraped: int) -> Iterator[str]:
    """URL of a real one that scrapes a port of this machine, whose series say themselves of which pod they are."""
    job = f'{{job_name: pods, honor_labels: true, static_configs: [{{targets: ["127.0.0.1:{scraped}"]}}]}}'
    with prometheus_of(folder, job) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def prometheus_of(folder: Path, *jobs: str, host: str = "127.0.0.1") -> Iterator[int]:
    """Port of a real one that runs these scrape configs, every two seconds."""
    port = free_port()
    lines = ["global: {scrape_interval: 2s}", "scrape_configs:", *(f"  - {job}" for job in jobs)]
    (folder / "prometheus.yml").write_text("\n".join(lines) + "\n")
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address={host}:{port}", "--log.level=error"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)
