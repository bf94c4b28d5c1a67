"""Knative mode against KServe's own rules for revisions, written down here from `createKnativeService` and `PropagateStatus` of 0.20."""

import pytest

from clickmill.release import Phase, Release
from monitoring.operator import knative
from monitoring.operator.servers import server
from tests.monitoring.operator.twin import NOON, URIS, A, B, C, Twin, merged, promoted, rolled_back

POLICY = {
    "steps": [5, 50, 100],
    "stepSeconds": 30,
    "minRequests": 100,
    "coolDownSeconds": 60,
    "shadow": False,
}


class Knative(Twin):
    """`Twin` with revisions in place of Deployments. `loads`: ticks until a revision is ready."""

    def __init__(self, **how):
        super().__init__(mode="Knative", policy=POLICY, **how)
        self.revisions, self.status = [], {"latest": "", "rolled": "", "previous": ""}
        self.shares = {}

    def tick(self, seconds=10):
        from datetime import timedelta

        self.now += timedelta(seconds=seconds)
        spec = self.services["ctr"]["spec"]["predictor"]
        uri, percent = spec["model"]["storageUri"], spec.get("canaryTrafficPercent")
        if not self.revisions or self.revisions[-1]["uri"] != uri:
            number = len(self.revisions) + 1
            left = 0 if number == 1 else self.loads
            self.revisions.append({"name": f"ctr-{number:05}", "uri": uri, "left": left})
        for each in self.revisions:
            if each["uri"] not in self.faults:
                each["left"] = max(each["left"] - 1, 0)
        ready = [each for each in self.revisions if each["left"] == 0]
        if not ready:
            return
        # Knative: `latestRevision` is the newest that is ready.
        newest, rolled = ready[-1], self.status["rolled"]
        if percent is None or not rolled:
            targets = [(newest["name"], 100, True)]
        else:
            targets = [(newest["name"], percent, True)] + (
                [(rolled, 100 - percent, False)] if percent < 100 else []
            )
        of_one = {}
        for name, share, _ in targets:
            of_one[name] = of_one.get(name, 0) + share
        for name, share, latest in targets:
            if not latest:
                continue
            if rolled != name:
                if share == 100:
                    self.status["previous"], self.status["rolled"] = rolled, name
            elif (
                newest is self.revisions[-1]
                and share < 100
                and of_one[name] == 100
                and self.status["previous"]
            ):
                self.status["rolled"] = self.status["previous"]
        self.status["latest"] = newest["name"]
        by_name = {each["name"]: each["uri"] for each in self.revisions}
        self.shares = {}
        for name, share in of_one.items():
            if share:
                self.shares[by_name[name]] = self.shares.get(by_name[name], 0) + share

    def answers(self, name):
        return {each["uri"] for each in self.revisions if each["left"] == 0}

    def traffic(self):
        return self.shares

    def _check(self):
        pass

    def deployments(self):
        return {}

    def measured(self):
        measured = super().measured()
        ready = {each["uri"] for each in self.revisions if each["left"] == 0}
        return type(measured)(
            evidence=measured.evidence,
            served=frozenset(d for d, uri in URIS.items() if uri in ready),
            error=measured.error,
        )

    def seen(self):
        found = super().seen()
        created = self.revisions[-1]["name"] if self.revisions else ""
        predictor = {
            "latestCreatedRevision": created,
            "latestReadyRevision": self.status["latest"],
            "latestRolledoutRevision": self.status["rolled"],
        }
        up = [{"type": "PredictorReady", "status": "True", "lastTransitionTime": NOON.isoformat()}]
        home = {**found.home, "status": {"conditions": up, "components": {"predictor": predictor}}}
        return type(found)(release=found.release, home=home)


@pytest.fixture
def twin():
    found = Knative()
    found.tick()
    found.tick()
    return found.quiet()


def walk(twin, steps):
    """Shares of the traffic, as they change."""
    seen = []
    for _ in range(steps):
        twin.step()
        if not seen or seen[-1] != twin.traffic():
            seen.append(twin.traffic())
    return seen


def test_a_good_bundle_gets_its_shares_and_then_the_field_is_gone(twin):
    twin.name(B)
    assert walk(twin, 40) == [
        {URIS[A]: 100}, {URIS[B]: 5, URIS[A]: 95}, {URIS[B]: 50, URIS[A]: 50}, {URIS[B]: 100},
    ]  # fmt: skip
    assert promoted(B)(twin)
    predictor = twin.services["ctr"]["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == URIS[B]
    assert "canaryTrafficPercent" not in predictor
    assert twin.condition("CarriedOut")["status"] == "True"


def test_a_bad_bundle_is_taken_back_and_never_seen_again(twin):
    twin.bad.add(B)
    twin.name(B)
    twin.until(rolled_back)
    assert walk(twin, 30) == [{URIS[A]: 100}]
    predictor = twin.services["ctr"]["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == URIS[A]
    assert "canaryTrafficPercent" not in predictor


@pytest.mark.parametrize("step", [5, 50, 100])
def test_an_alert_at_any_step_gives_everything_back_and_nothing_to_it_again(twin, step):
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", step))
    for _ in range(2):
        twin.tick()
    twin.release["status"]["alerts"] = {
        "firing": {"f 1": {"name": "X", "fingerprint": "f", "bundle": B[:12], "summary": "bad"}}
    }
    twin.step()
    twin.tick()
    assert walk(twin, 30) == [{URIS[A]: 100}]


def test_a_promoted_bundle_is_taken_back_at_once_through_the_revision_before(twin):
    twin.name(B)
    twin.until(promoted(B))
    twin.quiet()
    twin.release["status"]["alerts"] = {
        "firing": {"f 1": {"name": "X", "fingerprint": "f", "bundle": B[:12], "summary": "bad"}}
    }
    twin.step()
    twin.tick()  # KServe sees its own status once before it goes back
    assert walk(twin, 30) == [{URIS[A]: 100}]
    assert twin.services["ctr"]["spec"]["predictor"]["model"]["storageUri"] == URIS[A]
    twin.release["status"].pop("alerts")
    twin.name(C)
    assert walk(twin, 60)[-1] == {URIS[C]: 100}


def test_a_revision_that_never_gets_ready_gets_nothing(twin):
    twin.faults.add(URIS[B])
    twin.name(B)
    twin.until(rolled_back)
    assert walk(twin, 20) == [{URIS[A]: 100}]
    assert twin.services["ctr"]["spec"]["predictor"]["model"]["storageUri"] == URIS[A]


def test_deleted_in_the_middle_the_stable_bundle_has_it_all(twin):
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 50))
    twin.delete()
    for _ in range(20):
        if not twin.release["metadata"]["finalizers"]:
            break
        twin.step()
    assert twin.release["metadata"]["finalizers"] == []
    assert twin.traffic() == {URIS[A]: 100}
    assert "canaryTrafficPercent" not in twin.services["ctr"]["spec"]["predictor"]


def test_an_address_set_by_hand_is_left_alone():
    stored = merged(
        Knative().services["ctr"], {"spec": {"predictor": {"model": {"storageUri": "s3://by/hand"}}}}
    )
    stored["status"] = {"components": {"predictor": {"latestRolledoutRevision": "ctr-00001"}}}
    home = server(stored, None, URIS)
    release = Release(endpoint="ctr", phase=Phase.CANARY, since=NOON, stable=A, candidate=B, percent=5)
    assert knative.plan(release, home, URIS) == []
