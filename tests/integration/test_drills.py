"""Drills on one running system: real servers, router, joiner, Prometheus and Alertmanager; and the command, interrupted.

All that the bench runs five times over (`tests/bench/drills.py`), three faults run here: one that labels show, one that answers show, one where
nothing must be rolled back.
"""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from clickmill import bundle as bundles
from clickmill.bundle import reference
from clickmill.features.raw import to_arrow
from monitoring.drills import DRILLS, PAUSE_SECONDS
from monitoring.drills.drill import Scene
from monitoring.drills.processes import installed
from monitoring.drills.run import carry_out, faulty_bundle
from monitoring.drills.site import Site
from tests.integration.test_releases import WITH_IMPRESSIONS
from tests.serving.small_bundle import complete, raw_rows, write_small_bundle
from tests.waiting import until

pytestmark = pytest.mark.integration
with_alerts = pytest.mark.skipif(
    not (installed("prometheus") and installed("prometheus-alertmanager")),
    reason="prometheus and prometheus-alertmanager are not installed here: no drill was shown with the real engines",
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A formula's bundle with a reference sample, in which a value that the golden rows lack is in 5 % of the rows."""
    folder = write_small_bundle(
        tmp_path_factory.mktemp("bundle") / "good", bias=-2.5, contract=WITH_IMPRESSIONS
    )
    raw = raw_rows(4_000, seed=1)
    raw["user_id"][::20] = b"u-rare"
    pctr = bundles.load(folder, verify=False).predict(raw)["pctr"].astype(np.float64)
    reference.write(folder, to_arrow(raw, WITH_IMPRESSIONS), pctr)
    rate = float(pctr.mean())
    loss = -(pctr * np.log(pctr) + (1 - pctr) * np.log1p(-pctr)).mean()
    entropy = float(loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
    complete(
        folder,
        WITH_IMPRESSIONS,
        {"click_rate": rate, "calibration_ratio": 1.0, "normalized_entropy": entropy},
    )
    return folder


@pytest.fixture(scope="module")
def scene(good, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drills")
    with Site(folder / "site", good) as site:
        yield Scene(site, good, lambda wrong: faulty_bundle(good, wrong, folder, print))


@with_alerts
@pytest.mark.parametrize("name", ["click-log-stalled", "crashing-bundle", "uncalibrated-bundle"])
def test_what_must_happen_does(scene, name):
    outcome = carry_out(DRILLS[name], scene).outcome
    scene.site.callers.world.clicks_arrive = True
    as_expected(outcome)


def test_without_prometheus_the_clicks_find_it_all_the_same(good, tmp_path):
    """`make demo-incident` on a machine that has neither engine."""
    with Site(tmp_path / "site", good, alerting=False) as site:
        assert site.parts.keys() == {"release", "quality"}
        drilled = carry_out(
            DRILLS["uncalibrated-bundle"],
            Scene(site, good, lambda wrong: faulty_bundle(good, wrong, tmp_path, print)),
        )
    as_expected(drilled.outcome)
    assert "watch_ne: NE +" in drilled.outcome.reason
    assert drilled.outcome.alert_at is None


def as_expected(outcome):
    print(outcome)
    if outcome.problems and outcome.paused > PAUSE_SECONDS:
        pytest.skip(
            f"the machine stood still for {outcome.paused:.1f} s: nothing was shown ({outcome.problems})"
        )
    # How many requests a busy machine loses is the bench's business.
    assert [problem for problem in outcome.problems if "were lost" not in problem] == []


@with_alerts
def test_ctrl_c_leaves_no_process_behind(good, tmp_path):
    out = tmp_path / "drills"
    program = [sys.executable, "-c", "from clickmill.command import main; main()", "drill", "traffic-shift"]
    log = (tmp_path / "log").open("wb")
    with subprocess.Popen(
        [*program, "--bundle", str(good), "--out", str(out)], stdout=log, stderr=log
    ) as drill:
        # the release machine, its server, live quality, Alertmanager or Prometheus
        until(
            lambda: drill.poll() is not None or len(_with(str(out)) - {drill.pid}) >= 4,
            (tmp_path / "log").read_text,
        )
        assert drill.poll() is None, (tmp_path / "log").read_text()
        drill.send_signal(signal.SIGINT)
        assert drill.wait(120) == 130, (tmp_path / "log").read_text()
    log.close()
    assert _with(str(out)) == set()


def _with(words):
    """Processes whose command line names a folder."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words.encode() in line and int(pid) != os.getpid():
            found.add(int(pid))
    return found
