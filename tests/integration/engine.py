"""The real Prometheus and Alertmanager on loopback, with our rules in a hurry."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.ports import claim
from tests.monitoring.series import ALERTS, FILES
from tests.waiting import until


def installed(*programs: str) -> None:
    """Skip, loudly, where the real thing is not there."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed here: nothing was shown with the real engine")


def hurried_rules(folder: Path) -> Path:
    """Copies of the rules that differ in time only: every `for` is 1 s, and a bundle has settled after 1 s instead of 120."""
    folder.mkdir()
    for path in FILES:
        text = re.sub(r"^( +for:) .*$", r"\1 1s", path.read_text(), flags=re.M)
        (folder / path.name).write_text(
            text.replace("loaded_timestamp_seconds >= 120)", "loaded_timestamp_seconds >= 1)")
        )
    return folder


@contextlib.contextmanager
def running(command: list[str], log: Path, ready: str, seconds: float = 60) -> Iterator[None]:
    """A program for the length of a `with`; the body runs when `ready` answers 200."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until(lambda: process.poll() is not None or _answers(ready), log.read_text, seconds=seconds)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], alertmanager: int | None = None) -> Iterator[str]:
    """Prometheus that scrapes `targets` (port by job) and looks at the rules every second; gives its URL."""
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{hurried_rules(folder / 'rules')}/*.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in targets.items()
        ],
    }
    if alertmanager is not None:
        where = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        config["alerting"] = {"alertmanagers": where}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = claim("127.0.0.1", 0, "port")
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with running(command, folder / "prometheus.log", f"{url}/-/ready"):
        yield url


@contextlib.contextmanager
def alertmanager(folder: Path, receiver: str) -> Iterator[int]:
    """Alertmanager with the committed config, the release machine's address put in; gives its port."""
    text = (ALERTS / "alertmanager.yml").read_text()
    assert text.count("http://127.0.0.1:9106/alerts") == 1
    (folder / "alertmanager.yml").write_text(text.replace("http://127.0.0.1:9106/alerts", receiver))
    (folder / "release-token").write_text("a-token")
    port = claim("127.0.0.1", 0, "port")
    command = [
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"):
        yield port


def ask(url: str, query: str) -> list[dict[str, Any]]:
    """The vector that a query gives now."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30, trust_env=False).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return list(answer["data"]["result"])


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False
