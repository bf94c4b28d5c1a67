"""Releases with real pods: promotion, a bad canary back by evidence and by alert, the operator killed, the control plane hurt, and no
request that fails. Each test begins and ends settled on one bundle."""

from __future__ import annotations

import secrets
import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from tests.cluster.bringup import Places, wait_for
from tests.cluster.bringup.control_plane import wait_for_api
from tests.cluster.bringup.processes import restart, signal_process
from tests.cluster.callers import Callers
from tests.cluster.rollout import Rollout, rolled_out
from tests.cluster.sampled import Sampled

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not all(map(shutil.which, ("prometheus", "prometheus-alertmanager"))),
        reason="no prometheus and prometheus-alertmanager on the PATH",
    ),
]
PAUSED_SECONDS = 10.0


@pytest.fixture(scope="module")
def rollout(node: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollout]:
    folder = tmp_path_factory.mktemp("rollout")
    with rolled_out(node, folder, f"rollout-{secrets.token_hex(3)}") as found:
        yield found


def callers(rollout: Rollout) -> Callers:
    return Callers(rollout.url, [rollout.row], threads=3, pause_seconds=0.005)


def test_a_good_bundle_gets_its_shares_exactly_and_comes_home(rollout: Rollout) -> None:
    with callers(rollout) as asking, Sampled(lambda: rollout.shares) as shares:
        rollout.release("b")
        rollout.until("canary", "a", 25)
        canary = f"{rollout.beside('b')}-predictor"
        wait_for("a quarter", lambda: rollout.shares == {"ctr-predictor": 75, canary: 25}, 60)
        before = asking.bundles.copy()
        wait_for("answers", lambda: asking.answered > sum(before.values()) + 2000, 300)
        found = asking.bundles - before
        share = found[rollout.digests["b"]] / sum(found.values())
        rollout.until("promoted", "b")
        rollout.settled("b", {"a"})
    assert asking.failures == []
    assert share > 0.15  # a quarter while the step lasted; the test may look a moment longer, when it is more
    assert {"ctr-predictor": 75, canary: 25} in shares.seen
    assert {"ctr-predictor": 50, canary: 50} in shares.seen
    assert {canary: 100} in shares.seen
    told = rollout.stored["status"]
    assert [each["phase"] for each in told["history"]][-7:] == [
        "candidate", "smoke", "shadow", "canary", "canary", "canary", "promoted",
    ]  # fmt: skip
    conditions = {each["type"]: each["status"] for each in told["conditions"]}
    assert conditions["Promoted"] == conditions["CarriedOut"] == "True"
    assert set(asking.bundles) == {rollout.digests["a"], rollout.digests["b"]}


def test_a_bad_canary_comes_back_on_evidence_and_the_stable_pods_are_never_fewer(rollout: Rollout) -> None:
    stable = rollout.stable
    rollout.labels.over[rollout.digests["c"][:12]] = time.monotonic()
    with callers(rollout) as asking, Sampled(rollout.available) as pods:
        rollout.release("c", shadow=False)
        rollout.until("rolled_back", stable)
        rollout.settled(stable, rollout.warm)
    assert asking.failures == []
    assert min(pods.seen) >= 2
    (line,) = [
        each
        for each in rollout.stored["status"]["history"]
        if each["phase"] == "rolled_back" and each["bundle"] == rollout.digests["c"][:12]
    ]
    assert line["reason"].startswith("calibration")
    assert 0 < asking.bundles[rollout.digests["c"]] < 0.5 * asking.answered


def test_an_alert_goes_by_alertmanager_and_receiver_into_a_condition_and_takes_the_canary_back(
    rollout: Rollout,
) -> None:
    stable = rollout.stable
    with callers(rollout) as asking:
        rollout.release("d", stepSeconds=3600, shadow=False)
        rollout.until("canary", stable, 25)
        canary = f"{rollout.beside('d')}-predictor"
        wait_for("a quarter", lambda: rollout.shares.get(canary) == 25, 60)
        begun = time.monotonic()
        rollout.alert("d")
        wait_for("all back", lambda: rollout.shares == {"ctr-predictor": 100}, 120, 0.1)
        print(f"\nalert to all traffic back: {time.monotonic() - begun:.1f} s")
        rollout.until("rolled_back", stable)
        conditions = {each["type"]: each for each in rollout.stored["status"]["conditions"]}
        assert conditions["Alerted"]["status"] == "True"
        assert "CalibrationRatioHigh" in conditions["Alerted"]["message"]
        rollout.alert("d", resolved=True)
        rollout.settled(stable, rollout.warm)
    assert asking.failures == []


def test_a_release_goes_on_while_its_operator_is_killed_and_the_control_plane_is_hurt(
    rollout: Rollout,
) -> None:
    """The operator's pod killed without a chance to let its Lease go, the API server restarted, etcd stopped: in one release of `a`."""
    at, installed = rollout.installed.at, rollout.installed
    with callers(rollout) as asking:
        rollout.release("a")
        wait_for("the candidate", lambda: rollout.stored["status"]["release"].get("candidate"), 120)
        installed.kubectl(
            "delete", "pod", "--selector=app.kubernetes.io/component=operator", "--force", "--grace-period=0"
        )
        rollout.until("canary", "b", 25)
        restart(at, "kube-apiserver", seconds=10)
        wait_for_api(at)
        rollout.until("canary", "b", 50)
        signal_process(at, "etcd", signal.SIGSTOP)
        time.sleep(PAUSED_SECONDS)
        signal_process(at, "etcd", signal.SIGCONT)
        wait_for_api(at)
        installed.kubectl(
            "delete", "pod", "--selector=app.kubernetes.io/component=operator", "--force", "--grace-period=0"
        )
        rollout.until("promoted", "a")
        rollout.settled("a", {"b"})
    assert asking.failures == []


def test_pods_of_router_and_predictor_deleted_under_load_cost_no_request(rollout: Rollout) -> None:
    installed = rollout.installed
    with callers(rollout) as asking:
        wait_for("answers", lambda: asking.answered > 50, 60)
        for selector in (
            "app.kubernetes.io/component=router",
            "serving.kserve.io/inferenceservice=ctr,component=predictor",
        ):
            names = installed.kubectl("get", "pods", f"--selector={selector}", "--output=name").split()
            installed.kubectl("delete", names[0], "--wait=true", seconds=180)
            installed.kubectl("rollout", "status", "deployment/ctr-router", "--timeout=180s", seconds=190)
            installed.wait_for_pods(2)
        before = asking.answered
        wait_for("more answers", lambda: asking.answered > before + 50, 60)
    assert asking.failures == []
