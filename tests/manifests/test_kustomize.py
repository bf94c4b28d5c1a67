"""Overlays, training jobs and GitOps examples: kustomize builds them, and an overlay is what the chart gives with the values beside it."""

import functools
import json
import shutil
import subprocess

import pytest
import yaml

from clickmill.training import cluster
from helm import generate
from tests.helm import rendering
from tests.helm.command_line import expanded, parse
from tests.helm.pod_security import violations
from tests.manifests import schemas

ROOT = generate.ROOT / "manifests"
OVERLAYS = sorted(path.name for path in (ROOT / "overlays").iterdir())
TRAININGS = sorted(path.name for path in (ROOT / "training").iterdir())


@functools.cache
def built(folder):
    """The text that `kubectl apply -k` sends."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip(
            "kubectl is not on this machine, overlays were NOT built: put kubectl 1.32 or later on PATH"
        )
    done = subprocess.run([program, "kustomize", ROOT / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(folder):
    return [each for each in yaml.load_all(built(folder), Loader=rendering.Loader) if each]


def keyed(found):
    """By kind and name. The label `managed-by` says with which tool it was installed, and is left out."""
    out = {(each["kind"], each["metadata"]["name"]): unmanaged(each) for each in found}
    assert len(out) == len(found)
    return out


def unmanaged(value):
    if isinstance(value, list):
        return [unmanaged(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: unmanaged(each) for key, each in value.items() if key != "app.kubernetes.io/managed-by"}
    return {key: each for key, each in kept.items() if not (key == "labels" and each == {})}


def test_the_three_environments_are_there():
    assert OVERLAYS == ["dev", "production", "staging"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_the_chart_gives_with_the_values_beside_it(name):
    text = generate.render(
        rendering.program(), generate.BASE / "values.yaml", ROOT / "overlays" / name / "values.yaml"
    )
    chart = keyed([each for each in yaml.load_all(text, Loader=rendering.Loader) if each])
    overlay = keyed(objects(f"overlays/{name}"))
    namespace = overlay.pop(("Namespace", "clickmill"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert sorted(overlay) == sorted(chart)
    for key, wanted in chart.items():
        assert overlay[key] == wanted, key


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_of_an_overlay_are_restricted(name):
    for pod in rendering.pods(objects(f"overlays/{name}")).values():
        assert violations(pod) == []


@pytest.mark.parametrize(
    "folder", [f"overlays/{name}" for name in OVERLAYS] + [f"training/{name}" for name in TRAININGS]
)
def test_what_is_built_is_valid(folder, tmp_path):
    for path in (ROOT / "crds").glob("*.yaml"):
        schemas.write(schemas.of_crd(yaml.safe_load(path.read_text())), tmp_path)
    problems, valid = schemas.check(built(folder), schemas.folder(), tmp_path)
    assert problems == []
    assert valid == len(objects(folder))


def test_gitops_examples_are_valid():
    text = "---\n".join(path.read_text() for path in sorted((ROOT / "gitops").glob("*.yaml")))
    # The schema of GitRepository is in a Go module that cannot be had.
    problems, valid = schemas.check(text, schemas.folder(), unknown=("GitRepository",))
    assert (problems, valid) == ([], 2)


def test_gitops_examples_lead_to_an_overlay_and_leave_the_bundle_to_the_operator():
    argo = yaml.safe_load((ROOT / "gitops" / "argocd.yaml").read_text())
    assert (generate.ROOT / argo["spec"]["source"]["path"] / "kustomization.yaml").exists()
    (ignored,) = argo["spec"]["ignoreDifferences"]
    assert "/spec/predictor/model/storageUri" in ignored["jsonPointers"]
    _, flux = yaml.safe_load_all((ROOT / "gitops" / "flux.yaml").read_text())
    assert (generate.ROOT / flux["spec"]["path"] / "kustomization.yaml").exists()
    assert "ssa, value: IfNotPresent" in flux["spec"]["patches"][0]["patch"]


# -- training ----------------------------------------------------------------------------------------------------------------


def worker_of(folder):
    """(pod spec, container with what the job adds to it, number of workers)."""
    found = {each["kind"]: each for each in objects(f"training/{folder}")}
    if "TFJob" in found:
        spec = found["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        return pod, container, spec["replicas"]
    trainer, runtime = found["TrainJob"]["spec"]["trainer"], found["TrainingRuntime"]["spec"]
    assert found["TrainJob"]["spec"]["runtimeRef"]["name"] == found["TrainingRuntime"]["metadata"]["name"]
    assert runtime["mlPolicy"]["numNodes"] == trainer["numNodes"]
    (job,) = runtime["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return (
        pod,
        {**container, "args": trainer["args"], "resources": trainer["resourcesPerNode"]},
        trainer["numNodes"],
    )


@pytest.mark.parametrize("folder", TRAININGS)
def test_workers_run_a_training_that_exists_and_are_restricted(folder):
    pod, container, _ = worker_of(folder)
    assert violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    program, *words = [*container["command"], *container["args"]]
    assert program == "clickmill"
    asked = parse(words).params
    assert (str(asked["out"]), asked["model"]) == ("/data/model", "dcn_v2")
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/data", "/tmp"} <= mounts


@pytest.mark.parametrize("folder", ["tfjob-gpu", "trainjob-gpu"])
def test_gpu_workers_ask_for_gpus_and_go_where_they_are(folder):
    pod, container, _ = worker_of(folder)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert container["image"] == "clickmill/steps-python-cuda:0.1.0"


def test_the_tfjob_has_the_names_that_the_training_operator_looks_for():
    _, container, workers = worker_of("tfjob")
    assert (container["name"], container["ports"]) == (
        "tensorflow",
        [{"name": "tfjob-port", "containerPort": 2222}],
    )
    assert workers == 2


@pytest.mark.parametrize("index", [0, 1])
def test_the_trainjob_tells_each_worker_who_the_others_are(index):
    _, container, workers = worker_of("trainjob")
    env = {each["name"]: each for each in container["env"]}
    labels = {
        "metadata.labels['batch.kubernetes.io/job-completion-index']": str(index),
        "metadata.labels['jobset.sigs.k8s.io/jobset-name']": "ctr-train",
    }
    told = [
        {"name": name, "value": labels[each["valueFrom"]["fieldRef"]["fieldPath"]]}
        for name, each in env.items()
        if "valueFrom" in each
    ]
    # The kubelet replaces only what stands before.
    assert list(env)[-1] == "TF_CONFIG"
    (config,) = expanded([env["TF_CONFIG"]["value"]], told)
    assert cluster.workers(config) == workers == 2
    # Pod names of a JobSet: JOBSET-REPLICATEDJOB-JOB-POD, in the Service JOBSET.
    assert json.loads(config) == {
        "cluster": {"worker": ["ctr-train-node-0-0.ctr-train:2222", "ctr-train-node-0-1.ctr-train:2222"]},
        "task": {"type": "worker", "index": index},
    }
