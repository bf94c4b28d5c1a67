"""A cluster in memory: an API that takes the operator's writes, a KServe that makes pods ready after a while, a Gateway that follows
the route. Only as much as the operator sees of them."""

import copy
import json
from datetime import UTC, datetime, timedelta

from clickmill.release import Arm, Evidence, Period, Phase, Shadowed, Traffic, Watched
from clickmill.release.evidence import Labelled
from monitoring.operator import reconcile
from monitoring.operator.names import SOURCE_URI
from monitoring.operator.observe import Objects, PrometheusEvidence, world
from monitoring.operator.writes import Kind, Verb

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
URIS = {A: "s3://models/1", B: "s3://models/2", C: "s3://models/3"}
POLICY = {"steps": [5, 50, 100], "stepSeconds": 30, "minRequests": 100, "coolDownSeconds": 60, "shadow": True}


class Conflict(Exception):
    """Of resourceVersions."""


def merged(old, patch):
    """RFC 7396."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return copy.deepcopy(patch)
    found = dict(old)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key, {}), value)
    return found


def service(name="ctr", uri=URIS[A], **spec):
    return {
        "metadata": {"name": name, "resourceVersion": "1", "creationTimestamp": NOON.isoformat(), "generation": 1,
                     "labels": {"team": "ads", "helm.sh/chart": "x"}, "annotations": {"meta.helm.sh/release-name": "x", "note": "y"}},
        "spec": {"predictor": {"minReplicas": 2, "maxReplicas": 8,
                               "model": {"modelFormat": {"name": "clickmill"}, "storageUri": uri}}, **spec},
    }  # fmt: skip


def good(percent):
    """Evidence on which every step passes: counts beyond doubt, and clicks as predicted."""
    labelled = Labelled(
        impressions=400_000, clicks=20_000, pctr=20_000, residual_squares=19_000, log_loss=79_000, log_loss_squares=200_000
    )  # fmt: skip
    arm = Arm(traffic=Traffic(requests=50_000), labelled=labelled)
    shadow = Shadowed(
        traffic=arm.traffic, labelled=labelled, stable=arm, difference=0.0, difference_squares=10.0
    )
    canary = () if percent is None else (Period(percent=percent, stable=arm, candidate=arm),)
    return Evidence(shadow=(shadow,), canary=canary, watch=(Watched(traffic=Traffic(requests=1000)),))


def bad(percent):
    """Evidence on which every step fails: one request in ten does."""
    broken = Traffic(requests=50_000, errors=5_000)
    found = good(percent)
    shadow = tuple(each.model_copy(update={"traffic": broken}) for each in found.shadow)
    canary = tuple(
        each.model_copy(update={"candidate": Arm(traffic=broken, labelled=each.candidate.labelled)})
        for each in found.canary
    )
    return found.model_copy(update={"shadow": shadow, "canary": canary})


class Twin:
    """One endpoint `ctr` with bundle A, and a ModelRelease of the same name."""

    def __init__(self, *, wanted=A, loads=2, mode="Standard", by="Gateway", policy=POLICY, transformer=False):
        self.now, self.loads, self.version = NOON, loads, 1
        target = {"inferenceService": "ctr", "mode": mode}
        if mode == "Standard":
            hung = {"gateways": [{"name": "public"}], "hostnames": ["ctr.example.com"]}
            target["route"] = hung if by == "Gateway" else {"by": by}
        self.release = {
            "metadata": {"name": "ctr", "uid": "u1", "generation": 1, "resourceVersion": "1"},
            "spec": {"bundle": {"uri": URIS[wanted], "digest": wanted}, "target": target, "policy": policy},
        }
        ranker = {
            "name": "kserve-container",
            "env": [{"name": "STORAGE_URI", "value": URIS[A]}, {"name": "X", "value": "y"}],
        }
        self.services = {"ctr": service(**({"transformer": {"containers": [ranker]}} if transformer else {}))}
        selector = {"serving.kserve.io/inferenceservice": "ctr", "component": "predictor"}
        self.by_pod = {"spec": {"selector": selector, "ports": [{"port": 8081}]}} if transformer else None
        self.others_by_pod = {}
        self.pods = {}  # name: [(uri, ticks until they answer), ...] oldest first
        self.route = None
        self.log, self.notices, self.bad, self.faults = [], [], set(), set()
        self.evidence_error = ""
        self.lowest = None

    # What people do

    def name(self, digest, **more):
        self.edit(bundle={"uri": URIS[digest], "digest": digest, **more})

    def edit(self, **spec):
        self.release["spec"] = {
            key: value for key, value in {**self.release["spec"], **spec}.items() if value is not None
        }
        self.release["metadata"]["generation"] += 1
        self._touch(self.release)

    def delete(self):
        self.release["metadata"]["deletionTimestamp"] = self.now.isoformat()
        self._touch(self.release)

    # What the cluster does

    def tick(self, seconds=10):
        """Time passes: pods load, old ones end once new ones answer."""
        self.now += timedelta(seconds=seconds)
        for name, stored in self.services.items():
            pods = self.pods.setdefault(name, [])
            uri = stored["spec"]["predictor"]["model"]["storageUri"]
            if not pods or pods[-1][0] != uri:
                first = not pods and name == "ctr"
                pods.append([uri, 0 if first else self.loads])
            for pod in pods:
                if pod[0] not in self.faults:
                    pod[1] = max(pod[1] - 1, 0)
            if pods[-1][1] == 0:
                del pods[:-1]
        for name in set(self.pods) - set(self.services):
            del self.pods[name]
        self._check()

    def answers(self, name):
        """Addresses of the models that answer behind a Service."""
        return {uri for uri, left in self.pods.get(name, []) if left == 0}

    def traffic(self):
        """Address of the model to percent, of what callers get now; `None` for those that get no answer."""
        if self.route is None:
            return dict.fromkeys(self.answers("ctr"), 100)
        found = {}
        for service, weight in self.weights().items():
            name = service.rsplit("-", 1)[0]
            models = self.answers(name) or {None}
            for uri in models:
                found[uri] = found.get(uri, 0) + weight / len(models)
        return found

    def weights(self):
        """Service to percent, as a Gateway reads the HTTPRoute, or a router the ConfigMap."""
        if "data" in self.route:
            return json.loads(self.route["data"]["shares"])["percent"]
        return {each["name"]: each["weight"] for each in self.route["spec"]["rules"][0]["backendRefs"]}

    def mirror(self):
        """Service that gets copies."""
        if "data" in self.route:
            return json.loads(self.route["data"]["shares"])["mirror"]
        filters = self.route["spec"]["rules"][0].get("filters")
        return filters[0]["requestMirror"]["backendRef"]["name"] if filters else None

    def _check(self):
        """The promise: every request is answered, by bundles that releases know of."""
        traffic = self.traffic()
        assert None not in traffic, f"{traffic} at {self.now}: a share goes where nobody answers"
        assert traffic or not self.answers("ctr")

    def condition(self, kind):
        return next(each for each in self.release["status"]["conditions"] if each["type"] == kind)

    @property
    def state(self):
        return self.release["status"]["release"]

    @property
    def where(self):
        return (self.state["phase"], self.state.get("percent"))

    # What the operator sees and does

    def deployments(self):
        found = {}
        for name, pods in self.pods.items():
            if not pods:
                continue
            answering = sum(left == 0 for _, left in pods)
            newest = pods[-1][1] == 0
            found[f"{name}-predictor"] = {
                "metadata": {"generation": 1},
                "spec": {"replicas": 2, "template": {"metadata": {"annotations": {SOURCE_URI: pods[-1][0]}}}},
                "status": {"observedGeneration": 1, "replicas": 2 * len(pods), "updatedReplicas": 2 * newest,
                           "availableReplicas": 2 * answering},
            }  # fmt: skip
            found[f"{name}-transformer"] = found[f"{name}-predictor"]
        return found

    def seen(self):
        def with_status(stored):
            name = stored["metadata"]["name"]
            up = "True" if self.answers(name) else "False"
            conditions = [
                {"type": each, "status": up, "lastTransitionTime": NOON.isoformat()}
                for each in ("PredictorReady", "TransformerReady")
            ]
            return {**stored, "status": {"conditions": conditions}}

        services = {name: with_status(stored) for name, stored in self.services.items()}
        home = services.pop("ctr", None)
        return Objects(
            release=copy.deepcopy(self.release),
            home=home,
            others=tuple(services.values()),
            deployments=self.deployments(),
            route=copy.deepcopy(self.route),
            pods=self.by_pod,
            others_pods=tuple(self.others_by_pod),
        )

    def measured(self):
        release = self.release.get("status", {}).get("release")
        if release is None or self.evidence_error:
            return PrometheusEvidence(error=self.evidence_error)
        candidate, percent = release.get("candidate"), release.get("percent")
        evidence = (bad if candidate in self.bad else good)(percent)
        served = {digest for digest, uri in URIS.items() for name in self.pods if uri in self.answers(name)}
        return PrometheusEvidence(evidence=evidence, served=frozenset(served))

    def plan(self):
        return reconcile(world(self.seen(), self.measured()), self.now)

    def carry(self, plan, upto=None):
        """Do what the plan says, or only the first `upto` calls of it, as a kill in the middle would."""
        calls = ([("status", plan.status)] if plan.changed else []) + [
            ("write", write) for write in plan.writes
        ]
        for kind, what in calls[:upto]:
            if kind == "status":
                self.release["status"] = what.for_storage()
                self._touch(self.release)
                self.log.append("status")
            else:
                self.write(what)
        self.notices += plan.notices
        return len(calls)

    def write(self, write):
        self.log.append(str(write))
        if write.kind is Kind.RELEASE:
            self.release = merged(self.release, write.body)
            self._touch(self.release)
        elif write.kind in (Kind.ROUTE, Kind.SHARES):
            assert (self.route is None) is (write.verb is Verb.CREATE)
            self.route = merged(self.route or {}, write.body)
            self._touch(self.route)
        elif write.kind is Kind.PODS:
            if write.verb is Verb.DELETE:
                del self.others_by_pod[write.name]
            else:
                assert write.name not in self.others_by_pod
                self.others_by_pod[write.name] = write.body
        elif write.verb is Verb.DELETE:
            del self.services[write.name]
        elif write.verb is Verb.CREATE:
            assert write.name not in self.services
            self.services[write.name] = copy.deepcopy(write.body)
            self.services[write.name]["metadata"]["creationTimestamp"] = self.now.isoformat()
            self._touch(self.services[write.name])
        else:
            self.services[write.name] = merged(self.services[write.name], write.body)
            self._touch(self.services[write.name])
        self._check()

    def step(self, seconds=10):
        plan = self.plan()
        self.carry(plan)
        self.tick(seconds)
        return plan

    def until(self, reached, steps=200):
        """Steps until it holds."""
        for _ in range(steps):
            if "status" in self.release and "release" in self.release["status"] and reached(self):
                return self
            self.step()
        raise AssertionError(f"not reached: {self.release.get('status')}")

    def quiet(self, steps=200):
        """Steps until nothing was written for longer than anything takes."""
        silent = 0
        for _ in range(steps):
            silent = 0 if self.step().writes else silent + 1
            if silent == 8:
                return self
        raise AssertionError(f"never quiet: {self.log[-10:]}")

    def _touch(self, stored):
        self.version += 1
        stored["metadata"]["resourceVersion"] = str(self.version)


def promoted(digest):
    return lambda twin: twin.where[0] == Phase.PROMOTED and twin.state["stable"] == digest


def rolled_back(twin):
    return twin.where[0] == Phase.ROLLED_BACK
