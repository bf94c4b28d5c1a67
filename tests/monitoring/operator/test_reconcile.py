"""The operator's pure part over a cluster in memory: who gets traffic on the way up, on the way back, and whatever is killed meanwhile."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.release import Phase
from monitoring.operator.names import APPLIED, BUNDLE, FINALIZER
from tests.monitoring.operator.twin import NOON, POLICY, URIS, A, B, C, Twin, promoted, rolled_back, service

ALERT = {"name": "CalibrationRatioHigh", "fingerprint": "f", "summary": "predicts 1.5 times the clicks"}


def started(**how):
    twin = Twin(**how)
    twin.tick()
    twin.quiet()
    return twin


def fire(twin, bundle):
    twin.release["status"]["alerts"] = {
        "firing": {"f 1": {**ALERT, "bundle": bundle[:12]}},
        "resolved": [],
    }


def ends(twin):
    """All that matters at the end."""
    weights = twin.weights()
    models = {
        name: stored["spec"]["predictor"]["model"]["storageUri"] for name, stored in twin.services.items()
    }
    banned = [each["bundle"] for each in twin.state.get("quarantine", [])]
    return twin.where, twin.state["stable"], twin.state.get("lastGood"), banned, weights, models


def test_what_serves_is_adopted_and_gets_a_route():
    twin = started()
    assert twin.where == ("promoted", None)
    assert twin.state["stable"] == A
    assert twin.log.count("create HTTPRoute ctr") == 1
    rule = twin.route["spec"]["rules"][0]
    assert rule["backendRefs"] == [{"name": "ctr-predictor", "port": 80, "weight": 100}]
    assert twin.route["spec"]["parentRefs"] == [{"name": "public"}]
    assert twin.condition("Promoted")["status"] == "True"


BY = pytest.mark.parametrize("by", ["Gateway", "Router"])


@BY
def test_a_good_bundle_goes_all_the_way_and_comes_home(by):
    twin = started(by=by)
    twin.name(B)
    way, shares, mirrored = [], [], set()
    for _ in range(60):
        twin.step()
        if not way or way[-1] != twin.where:
            way.append(twin.where)
            shares.append(twin.traffic().get(URIS[B], 0))
        if twin.mirror():
            mirrored.add((twin.where[0], twin.mirror()))
    assert way == [("candidate", None), ("smoke", None), ("shadow", None), ("canary", 5), ("canary", 50), ("canary", 100),
                   ("promoted", None)]  # fmt: skip
    assert shares == [0, 0, 0, 5, 50, 100, 100]
    assert mirrored == {("shadow", "ctr-bbbbbbbbbb-predictor")}
    assert ends(twin) == (
        ("promoted", None), B, A, [], {"ctr-predictor": 100},
        {"ctr": URIS[B], "ctr-aaaaaaaaaa": URIS[A]},
    )  # fmt: skip
    assert [each.reason for each in twin.notices][-2:] == ["Canary", "Promoted"]
    assert twin.condition("Promoted")["reason"] == "Serves"


def test_for_a_router_the_shares_are_a_config_map_and_no_http_route_is_written():
    twin = started(by="Router")
    assert twin.log.count("create ConfigMap ctr-shares") == 1
    assert json.loads(twin.route["data"]["shares"]) == {
        "percent": {"ctr-predictor": 100},
        "mirror": None,
        "port": 80,
    }
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    assert json.loads(twin.route["data"]["shares"])["percent"] == {
        "ctr-predictor": 95,
        "ctr-bbbbbbbbbb-predictor": 5,
    }
    assert not any("HTTPRoute" in each for each in twin.log)


def test_home_is_untouched_until_the_bundle_is_promoted_and_the_one_before_it_is_warm():
    twin = started()
    twin.name(B)
    twin.until(promoted(B))
    assert "patch InferenceService ctr" not in twin.log
    twin.quiet()
    changed = twin.log.index("patch InferenceService ctr")
    assert twin.log.index("create InferenceService ctr-aaaaaaaaaa") < changed


def test_traffic_comes_home_in_quarters():
    twin = started()
    twin.name(B)
    twin.until(promoted(B))
    home = []
    for _ in range(40):
        twin.step()
        weights = twin.weights()
        if not home or home[-1] != weights.get("ctr-predictor", 0):
            home.append(weights.get("ctr-predictor", 0))
    assert home == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("shadow", [True, False])
def test_a_bad_bundle_is_taken_back_and_leaves_nothing_behind(shadow):
    twin = started(policy={**POLICY, "shadow": shadow})
    twin.bad.add(B)
    twin.name(B)
    twin.until(rolled_back)
    assert twin.traffic() == {URIS[A]: 100}
    twin.quiet()
    assert ends(twin) == (
        ("rolled_back", None),
        A,
        None,
        [B],
        {"ctr-predictor": 100},
        {"ctr": URIS[A]},
    )
    assert "patch InferenceService ctr" not in twin.log
    promoted_condition = twin.condition("Promoted")
    assert (promoted_condition["status"], promoted_condition["reason"]) == ("False", "RolledBack")
    assert "errors" in promoted_condition["message"]
    assert any(each.warning and each.reason == "RolledBack" for each in twin.notices)


def test_an_alert_about_the_candidate_takes_it_back_in_one_pass():
    twin = started()
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 50))
    fire(twin, B)
    twin.carry(twin.plan())
    assert twin.where[0] == "rolled_back"
    assert twin.traffic() == {URIS[A]: 100}
    assert twin.release["status"]["history"][-1]["reason"].startswith("alert CalibrationRatioHigh")


@pytest.mark.parametrize("home", [False, True], ids=["before it came home", "after"])
def test_a_promoted_bundle_is_taken_back_in_one_pass_without_a_load(home):
    twin = started()
    twin.name(B)
    twin.until(promoted(B))
    if home:
        twin.quiet()
        twin.until(lambda t: "ctr-bbbbbbbbbb" not in t.services)
    fire(twin, B)
    twin.carry(twin.plan())
    assert twin.traffic() == {URIS[A]: 100}
    twin.quiet()
    twin.until(lambda t: set(t.services) == {"ctr"})
    assert ends(twin)[-2:] == ({"ctr-predictor": 100}, {"ctr": URIS[A]})


def test_a_bundle_that_was_taken_back_is_not_tried_again_unless_a_new_spec_says_so():
    twin = started()
    twin.bad.add(B)
    twin.name(B)
    twin.until(rolled_back)
    for _ in range(30):
        twin.step()
    assert twin.state.get("candidate") is None
    twin.edit(bundle={"uri": URIS[B], "digest": B, "evenQuarantined": True})
    twin.until(lambda t: t.state.get("candidate") == B)
    twin.until(rolled_back)
    for _ in range(30):
        twin.step()
    named = [each for each in twin.release["status"]["history"] if each["reason"].startswith("generation")]
    assert len(named) == 2


def test_another_bundle_named_in_the_middle_takes_the_place_of_the_candidate_without_blame():
    twin = started()
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    twin.name(C)
    twin.until(promoted(C))
    twin.quiet()
    assert twin.state.get("quarantine", []) == []
    assert twin.state["lastGood"] == A


def test_by_hand_frozen_resumed_and_taken_back():
    twin = started()
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    twin.edit(freeze={"reason": "black friday"})
    for _ in range(30):
        twin.step()
    assert twin.where == ("canary", 5)
    assert twin.condition("Frozen")["message"] == "by spec: black friday"
    twin.edit(freeze=None)
    twin.until(lambda t: t.where == ("canary", 50))
    twin.edit(rollback={"digest": B, "reason": "revenue fell"})
    twin.until(rolled_back)
    twin.quiet()
    assert twin.traffic() == {URIS[A]: 100}
    assert twin.state["quarantine"][0]["reason"] == "revenue fell"


def test_a_candidate_that_never_gets_ready_fails_its_smoke_test():
    twin = started()
    twin.faults.add(URIS[B])
    twin.name(B)
    twin.until(rolled_back)
    assert twin.release["status"]["history"][-1]["reason"] == "smoke: its pods are not ready after 600 s"


def test_without_evidence_nothing_goes_forward_and_it_is_said():
    twin = started()
    twin.name(B)
    twin.until(lambda t: t.where[0] == "shadow")
    twin.evidence_error = "http://prometheus:9090 does not answer"
    for _ in range(50):
        twin.step()
    assert twin.where[0] == "shadow"
    assert twin.condition("EvidenceAvailable")["message"] == "http://prometheus:9090 does not answer"


def test_while_it_waits_it_writes_at_most_once_a_minute():
    twin = started(policy={**POLICY, "stepSeconds": 100_000})
    twin.name(B)
    twin.until(lambda t: t.where[0] == "shadow")
    twin.step()
    twin.step()
    twin.log.clear()
    for _ in range(60):  # ten minutes, in each look the seconds that are left are others
        twin.step()
    assert set(twin.log) == {"status"}
    assert len(twin.log) <= 10


def test_when_nothing_happens_nothing_is_written():
    twin = started()
    for _ in range(10):
        twin.step()
    twin.log.clear()
    for _ in range(100):
        twin.step()
    assert twin.log == []


# Edits by hand


def weigh(twin, **weights):
    if "data" in twin.route:
        percent = {f"{name}-predictor": weight for name, weight in weights.items()}
        twin.route["data"] = {"shares": json.dumps({"percent": percent, "mirror": None, "port": 80})}
        return
    backends = [{"name": f"{name}-predictor", "port": 80, "weight": w} for name, w in weights.items()]
    twin.route["spec"]["rules"][0]["backendRefs"] = backends


@BY
def test_weights_set_by_hand_stay_and_hold_the_release_up(by):
    twin = started(by=by)
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    weigh(twin, ctr=30, **{"ctr-bbbbbbbbbb": 70})
    twin.log.clear()
    for _ in range(30):
        twin.step()
    assert not [each for each in twin.log if "HTTPRoute" in each or "ConfigMap" in each]
    assert twin.where == ("canary", 5)
    assert twin.condition("Edited")["status"] == "True"
    assert "delete it to let the operator write it again" in twin.condition("Edited")["message"]
    twin.route = None
    twin.step()
    assert twin.traffic() == {URIS[A]: 95, URIS[B]: 5}
    twin.until(lambda t: t.where == ("canary", 50))


@BY
def test_a_rollback_is_written_over_an_edit_once(by):
    twin = started(by=by)
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    weigh(twin, ctr=30, **{"ctr-bbbbbbbbbb": 70})
    twin.step()
    fire(twin, B)
    twin.step()
    assert twin.traffic() == {URIS[A]: 100}
    weigh(twin, ctr=60, **{"ctr-bbbbbbbbbb": 40})
    for _ in range(20):
        twin.step()
    assert twin.traffic() == {URIS[A]: 60, URIS[B]: 40}  # twice would be a fight
    assert "ctr-bbbbbbbbbb" in twin.services  # and what it sends to is not deleted


@pytest.mark.parametrize(
    "data", [{}, {"shares": "all to ctr"}, {"shares": '{"percent": {"ctr-predictor": 90}}'}]
)
def test_shares_that_no_router_can_read_are_an_edit(data):
    twin = started(by="Router")
    twin.route["data"] = data
    plan = twin.plan()
    twin.carry(plan)
    assert twin.condition("Edited")["message"].startswith("the ConfigMap was changed by hand")
    assert "ConfigMap" not in "".join(map(str, plan.writes))


def test_an_address_set_by_hand_at_home_stays_and_is_reported():
    twin = started()
    twin.services["ctr"]["spec"]["predictor"]["model"]["storageUri"] = "s3://models/by-hand"
    twin.log.clear()
    for _ in range(30):
        twin.step()
    assert "patch InferenceService ctr" not in twin.log
    assert "told by hand to load 's3://models/by-hand'" in twin.condition("Edited")["message"]
    assert twin.traffic() == {URIS[A]: 100}  # the bundle that releases trust serves from beside it


def test_what_a_person_sets_on_a_server_beside_is_kept():
    twin = started()
    twin.name(B)
    twin.until(lambda t: t.where == ("canary", 5))
    twin.services["ctr-bbbbbbbbbb"]["spec"]["predictor"]["minReplicas"] = 5
    twin.until(promoted(B))
    assert twin.services["ctr-bbbbbbbbbb"]["spec"]["predictor"]["minReplicas"] == 5


def test_the_server_beside_is_a_copy_without_what_tools_keep_on_the_original():
    twin = started(transformer=True)
    twin.name(B)
    twin.until(lambda t: t.where[0] == "shadow")
    made = twin.services["ctr-bbbbbbbbbb"]
    assert made["metadata"]["labels"] == {"team": "ads", "clickmill.dev/release": "ctr", BUNDLE: B[:12]}
    assert made["metadata"]["annotations"] == {"note": "y", BUNDLE: B}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert made["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "clickmill"},
        "storageUri": URIS[B],
    }
    assert twin.route["spec"]["rules"][0]["backendRefs"][0]["name"] == "ctr-transformer"


def test_a_ranker_reads_the_bundle_of_its_predictor_and_sees_its_pods():
    twin = started(transformer=True)
    twin.name(B)
    twin.until(lambda t: t.where[0] == "shadow")
    (ranker,) = twin.services["ctr-bbbbbbbbbb"]["spec"]["transformer"]["containers"]
    assert ranker["env"] == [{"name": "STORAGE_URI", "value": URIS[B]}, {"name": "X", "value": "y"}]
    made = twin.others_by_pod["ctr-bbbbbbbbbb-predictor-pods"]
    assert made["spec"]["selector"] == {
        "serving.kserve.io/inferenceservice": "ctr-bbbbbbbbbb", "component": "predictor",
    }  # fmt: skip
    assert twin.log.index("create Service ctr-bbbbbbbbbb-predictor-pods") < twin.log.index(
        "create InferenceService ctr-bbbbbbbbbb"
    )
    twin.until(promoted(B))
    twin.until(lambda t: "ctr-bbbbbbbbbb" not in t.services)
    twin.quiet()
    assert set(twin.others_by_pod) == {"ctr-aaaaaaaaaa-predictor-pods"}
    (ranker,) = twin.services["ctr"]["spec"]["transformer"]["containers"]
    assert ranker["env"] == [{"name": "STORAGE_URI", "value": URIS[B]}, {"name": "X", "value": "y"}]


# What can't be carried out


def test_a_target_that_is_not_there_is_said():
    twin = Twin()
    twin.services = {}
    for _ in range(3):
        twin.carry(twin.plan())
    assert twin.condition("Accepted")["reason"] == "TargetMissing"
    assert "make it first" in twin.condition("Accepted")["message"]


def test_what_serves_must_be_known_before_another_bundle_is_released():
    twin = Twin(wanted=B)
    twin.tick()
    for _ in range(3):
        twin.step()
    assert twin.condition("Accepted")["reason"] == "StableUnknown"
    assert (
        "kubectl annotate inferenceservice ctr clickmill.dev/bundle=DIGEST"
        in twin.condition("Accepted")["message"]
    )
    twin.services["ctr"]["metadata"]["annotations"][BUNDLE] = A
    twin.until(promoted(B))


def test_an_address_that_another_bundle_has_is_refused():
    twin = started()
    twin.edit(bundle={"uri": URIS[A], "digest": B})
    twin.step()
    assert twin.condition("Accepted")["reason"] == "AddressTaken"
    assert twin.state.get("candidate") is None


# Deletion


@pytest.mark.parametrize(
    "reached",
    [lambda t: True, lambda t: t.where == ("canary", 50), lambda t: t.where == ("canary", 100), promoted(B), rolled_back],
    ids=["at once", "canary 50", "canary 100", "promoted", "rolled back"],
)  # fmt: skip
def test_deleted_it_leaves_the_stable_bundle_at_home_with_all_traffic(reached):
    twin = started()
    if reached is rolled_back:
        twin.bad.add(B)
    twin.name(B)
    twin.until(reached)
    stable = twin.state["stable"]
    twin.delete()
    for _ in range(60):
        if FINALIZER not in twin.release["metadata"]["finalizers"]:
            break
        twin.step()
    assert twin.release["metadata"]["finalizers"] == []
    assert {n: s["spec"]["predictor"]["model"]["storageUri"] for n, s in twin.services.items()} == {
        "ctr": URIS[stable]
    }
    assert twin.traffic() == {URIS[stable]: 100}
    assert "ownerReferences" not in twin.route["metadata"]


def test_deleted_together_with_its_service_it_holds_nothing_up():
    twin = started()
    twin.services = {}
    twin.delete()
    twin.carry(twin.plan())
    assert twin.release["metadata"]["finalizers"] == []


# Whatever happens

ACTIONS = st.lists(
    st.sampled_from(
        ["wait", "wait", "wait", "name a", "name b", "name c", "b is bad", "c is bad", "b is good", "alert about the stable",
         "alert about the candidate", "no alert", "freeze", "thaw", "take back", "no evidence", "evidence", "kill 0", "kill 1",
         "kill 2", "status is lost", "edit the route", "delete the route", "edit home", "mend home"]
    ),
    min_size=5, max_size=60,
)  # fmt: skip


def do(twin, action):
    state = twin.release.get("status", {}).get("release")
    if action.startswith("name"):
        digest = {"a": A, "b": B, "c": C}[action[-1]]
        if digest != twin.release["spec"]["bundle"]["digest"]:
            twin.name(digest)
    elif "is bad" in action:
        twin.bad.add({"b": B, "c": C}[action[0]])
    elif action == "b is good":
        twin.bad.discard(B)
    elif action == "alert about the stable" and state:
        fire(twin, state["stable"])
    elif action == "alert about the candidate" and state and state.get("candidate"):
        fire(twin, state["candidate"])
    elif action == "no alert" and state:
        twin.release["status"].pop("alerts", None)
    elif action == "freeze":
        twin.edit(freeze={"reason": "a person says so"})
    elif action == "thaw":
        twin.edit(freeze=None)
    elif action == "take back" and state:
        twin.edit(rollback={"digest": state.get("candidate", state["stable"]), "reason": "by hand"})
    elif action == "no evidence":
        twin.evidence_error = "silent"
    elif action == "evidence":
        twin.evidence_error = ""
    elif action.startswith("kill"):
        twin.carry(twin.plan(), upto=int(action[-1]))
        twin.tick()
    elif action == "edit the route" and twin.route is not None:
        names = [name for name in twin.services if twin.answers(name)]
        weigh(twin, **{names[-1]: 100})
    elif action == "delete the route":
        twin.route = None
    elif action == "edit home":
        twin.services["ctr"]["spec"]["predictor"]["model"]["storageUri"] = "s3://models/by-hand"
    elif action == "mend home" and state:
        twin.services["ctr"]["spec"]["predictor"]["model"]["storageUri"] = URIS[state["stable"]]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["Gateway", "Router"]), ACTIONS)
def test_whatever_happens_every_request_is_answered_and_the_same_world_gives_the_same_plan(by, actions):
    """`Twin` checks after every write and every tick that each share of the route goes where somebody answers."""
    twin = started(by=by)
    for action in actions:
        if action != "status is lost":
            do(twin, action)
        before = copy.deepcopy(twin.release)
        plan = twin.plan()
        assert plan == twin.plan()
        assert twin.release == before
        twin.carry(plan)
        state = twin.release.get("status", {}).get("release")
        if state and not state.get("percent"):
            told = [n for n, w in twin.traffic().items() if w and n == URIS.get(state.get("candidate", ""))]
            assert (
                not told
                or twin.condition("Edited")["status"] == "True"
                or twin.condition("CarriedOut")["status"] == "False"
            )
        assert len(twin.services) <= 4  # home, the stable bundle, the one before it, the candidate
        twin.tick()


@settings(max_examples=40, deadline=None)
@given(bad=st.booleans(), kills=st.dictionaries(st.integers(0, 40), st.integers(0, 2), max_size=20))
def test_killed_anywhere_the_outcome_is_the_same(bad, kills):
    """Each kill ends a pass after some of its calls; the next pass is another process, which knows only what is on the cluster."""
    outcomes = []
    for killed in ({}, kills):
        twin = started()
        if bad:
            twin.bad.add(B)
        twin.name(B)
        for number in range(120):
            twin.carry(twin.plan(), upto=killed.get(number))
            twin.tick()
        outcomes.append(ends(twin))
    assert outcomes[0] == outcomes[1]


def test_a_lost_status_is_found_again_from_what_serves():
    twin = started()
    twin.name(B)
    twin.until(promoted(B))
    twin.quiet()
    for _ in range(20):
        twin.step()
    del twin.release["status"]
    twin.until(promoted(B))
    assert twin.traffic() == {URIS[B]: 100}


def test_it_never_reads_the_world_as_something_else(monkeypatch):
    """The digest of what was last written is in the route, and what the API server adds to it changes nothing."""
    twin = started()
    twin.route["spec"]["rules"][0]["matches"] = [{"path": {"type": "PathPrefix", "value": "/"}}]
    for backend in twin.route["spec"]["rules"][0]["backendRefs"]:
        backend |= {"group": "", "kind": "Service"}
    twin.route["spec"]["parentRefs"] = [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
    ]
    twin.step()
    assert twin.condition("Edited")["status"] == "False"
    assert twin.route["metadata"]["annotations"][APPLIED]
    assert twin.condition("CarriedOut")["status"] == "True"
    assert service()["metadata"]["creationTimestamp"] == NOON.isoformat()
    assert Phase(twin.where[0]) is Phase.PROMOTED
