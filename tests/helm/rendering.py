"""The chart as objects, for the tests; skipped loudly where helm is missing."""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm import generate

PROMETHEUS = generate.APIS
KEDA = ("keda.sh/v1alpha1/ScaledObject",)
MINIMAL = {"endpoint": {"storageUri": "pvc://models/ctr"}}
FULL = {
    "endpoint": {
        "storageUri": "s3://ads/ctr/7",
        "storageSecretName": "object-store",
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/ctr"},
    },
    "images": {
        "registry": "registry.example/ads",
        "pullSecrets": [{"name": "registry"}],
        "serving": {"digest": f"sha256:{'a' * 64}"},
    },
    "predictor": {
        "args": ["--batch-rows=512"],
        "nodeSelector": {"pool": "serving"},
        "tolerations": [{"operator": "Exists"}],
    },
    "ranker": {
        "args": ["--score-cache-seconds=30"],
        "nodeSelector": {"pool": "serving"},
        "tolerations": [{"operator": "Exists"}],
    },
    "router": {"enabled": True, "args": ["--timeout-seconds=1"]},
    "autoscaling": {"class": "keda"},
    "features": {"secretName": "feature-store"},
    "store": {"claim": "models", "path": "ctr"},
    "predictionLog": {"claim": "prediction-log", "saltSecretName": "salt"},
    "clicks": {"claim": "click-log", "path": "by-hour"},
    "quality": {"enabled": True},
    "drift": {"enabled": True},
    "monitoring": {
        "enabled": True,
        "rulesConfigMap": True,
        "grafanaAlerts": True,
        "receivers": {"people": {"slackConfigs": [{"channel": "#ads"}]}},
    },
    "networkPolicy": {
        "objectStore": [
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"protocol": "TCP", "port": 443}]}
        ],
        "predictorEgress": [{"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 4318}]}],
    },
    "operator": {"alertTokenSecretName": "alerts"},
    "pipelines": {"enabled": True, "host": "http://ml-pipeline.kubeflow.svc:8888"},
    "quota": {"enabled": True},
}
KNATIVE = {
    **MINIMAL,
    "endpoint": {"storageUri": "s3://ads/ctr/7", "mode": "Knative"},
    "ranker": {"enabled": False},
    "autoscaling": {"class": "none"},
}
TF_SERVING = {**MINIMAL, "endpoint": {"storageUri": "s3://ads/ctr/7", "runtime": "tf-serving"}}
# What `FULL` can't have at once with the rest.
OTHER = {
    **FULL,
    "drift": {
        "enabled": True,
        "schedule": "0 3 * * *",
        "claim": "drift",
        "pushgateway": "http://pushgateway.monitoring.svc:9091",
    },
    "autoscaling": {"class": "none"},
    "ranker": {"enabled": False},
    "pipelines": {
        **FULL["pipelines"],
        "namespace": "ads",
        "tokenSecretName": "kfp",
        "cron": "0 0 3 * * *",
        "arguments": {"contract": "/mnt/ctr.yaml", "impressions": ["/mnt/log/*.parquet"]},
    },
}
CASES = {"other": OTHER, "minimal": MINIMAL, "full": FULL, "knative": KNATIVE, "tf-serving": TF_SERVING}

Object = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """Go's YAML has no type `value`: it writes a bare `=`."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def program() -> str:
    """Path of helm, or a skip that says what to do."""
    found = generate.helm()
    if found is None:
        pytest.skip(
            "helm is not on this machine, the chart was NOT rendered: put helm 3 on PATH, or run `make test-cluster` once, which builds it"
        )
    return found


@functools.cache
def _text(values: str, apis: tuple[str, ...], release: str, namespace: str) -> str:
    command = [program(), "template", release, str(generate.CHART), "--namespace", namespace]
    command += ["--include-crds", "--kube-version", generate.KUBERNETES, "--values", "-"]
    command += [word for api in apis for word in ("--api-versions", api)]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmFailed(done.stderr)
    return done.stdout


class HelmFailed(Exception):
    """Helm did not render; its words."""


def text(
    values: Object,
    apis: tuple[str, ...] = PROMETHEUS + KEDA,
    release: str = "ctr",
    namespace: str = "ads",
) -> str:
    """What `helm template` prints. Raises HelmFailed."""
    return _text(json.dumps(values), tuple(apis), release, namespace)


def objects(values: Object, **options: Any) -> list[Object]:
    """The rendered objects."""
    return [each for each in yaml.load_all(text(values, **options), Loader=Loader) if each]


def of_kind(rendered: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [each for each in rendered if each["kind"] == kind]


def named(rendered: list[Object], kind: str, name: str) -> Object:
    """The one of this kind and name."""
    (found,) = [each for each in of_kind(rendered, kind) if each["metadata"]["name"] == name]
    return found


def pods(rendered: list[Object]) -> dict[str, Object]:
    """Name to pod spec, of everything that runs pods. The predictor's is put together from runtime and InferenceService as KServe does:
    the runtime's container under what the InferenceService says of the model."""
    found: dict[str, Object] = {}
    for each in rendered:
        name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        match each["kind"]:
            case "Pod":
                found[name] = spec
            case "Deployment" | "Job":
                found[name] = spec["template"]["spec"]
            case "CronJob":
                found[name] = spec["jobTemplate"]["spec"]["template"]["spec"]
            case "InferenceService":
                found |= _served(each, rendered)
    return found


def _served(service: Object, rendered: list[Object]) -> dict[str, Object]:
    name, parts = service["metadata"]["name"], service["spec"]
    found = {}
    runtimes = [
        each
        for each in of_kind(rendered, "ServingRuntime")
        if each["metadata"]["name"] == parts["predictor"]["model"]["runtime"]
    ]
    if runtimes:
        (runtime,) = runtimes
        (container,) = runtime["spec"]["containers"]
        predictor = {key: value for key, value in parts["predictor"].items() if key != "model"}
        model = parts["predictor"]["model"]
        found[f"InferenceService/{name} predictor"] = {
            **predictor,
            "containers": [{**container, "resources": model["resources"]}],
            "volumes": runtime["spec"]["volumes"],
        }
    if "transformer" in parts:
        found[f"InferenceService/{name} transformer"] = parts["transformer"]
    return found


def committed(folder: Path) -> list[Object]:
    """The objects of a folder of the repository."""
    return [
        each
        for path in sorted(folder.glob("*.yaml"))
        if path.name not in {"values.yaml", "kustomization.yaml"}
        for each in yaml.load_all(path.read_text(), Loader=Loader)
        if each
    ]
