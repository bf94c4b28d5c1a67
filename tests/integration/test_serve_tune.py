"""`clickmill serve --tune` with a real endpoint, short measurements; and what stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clickmill.command import serve_settings

PROGRAM = Path(sys.executable).with_name("clickmill")
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bundle(bundles: list[Path]) -> Path:
    return bundles[0]


def tune(bundle: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [PROGRAM, "serve", str(bundle), "--tune", "--tune-out", str(out)]
    short = ["--tune-candidates", "4", "--tune-seconds", "0.3", "--tune-p99", "100ms", *options]
    return subprocess.Popen([*command, *short], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_tune_measures_tells_and_writes_settings_that_serve_and_capacity_read(bundle, tmp_path):
    out = tmp_path / "serve.yaml"
    told, words = tune(bundle, out).communicate(timeout=900)
    assert "best: --threads" in told, words
    assert "no setting keeps" not in words
    given = serve_settings.read(out)["serve"]
    assert set(given) == {"threads", "batch_rows", "batch_wait_us", "shed_wait_ms"}
    found = serve_settings.measured_in(out)
    assert [point.candidates for point in found.points] == [1, 4]
    assert all(point.saturation_per_second > 0 for point in found.points)
    plan = subprocess.run(
        [PROGRAM, "capacity", "--qps", "1000", "--p99", "200ms", "--candidates", "3",
         "--measured", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plan.returncode == 0, plan.stderr
    assert "replicas" in plan.stdout


def test_ctrl_c_keeps_the_best_so_far(bundle, tmp_path):
    out = tmp_path / "serve.yaml"
    process = tune(bundle, out, "--tune-seconds", "1")
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip().startswith("threads 1"):  # the second setting has been measured
            break
    process.send_signal(signal.SIGINT)
    told, words = process.communicate(timeout=300)
    assert process.returncode == 130, words
    assert "interrupted after" in words
    assert "best" in told
    assert [point.candidates for point in serve_settings.measured_in(out).points] == [4]
