"""JSON schemas of the kinds that chart and manifests use, made from their own sources when the tests run; nothing of them is in the repository.

The sources are Go modules, fetched by `go mod download` (a few seconds each, but for Kubernetes) and kept in Go's module cache: CRDs
as their projects publish them, and Kubernetes' own OpenAPI document. What is made of them lies in the cache of the cluster tests.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm import generate
from tests.helm import rendering

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
CRDS = {
    "github.com/kserve/kserve@v0.20.0": "config/crd/full/serving*.yaml",
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/*.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*.yaml",
    "github.com/kubeflow/training-operator@v1.8.1": "manifests/base/crds/kubeflow.org_tfjobs.yaml",
    "github.com/kubeflow/trainer/v2@v2.0.0": "manifests/base/crds/trainer*.yaml",
    "github.com/argoproj/argo-cd/v2@v2.14.21": "manifests/crds/*-crd.yaml",
    "github.com/fluxcd/kustomize-controller@v1.6.0": "config/crd/bases/*.yaml",
}

Schema = dict[str, Any]


def kubeconform() -> str:
    """Path of kubeconform, or a skip that says what to do."""
    cache = Path(os.environ.get("CLICKMILL_CLUSTER_CACHE") or generate.ROOT / ".cache" / "cluster")
    found = cache / "bin" / "kubeconform"
    program = str(found) if found.exists() else shutil.which("kubeconform")
    if program is None:
        pytest.skip(
            "kubeconform is not on this machine, objects were NOT checked against the schemas of their kinds: "
            "put it on PATH, or run `make test-cluster` once, which builds it"
        )
    return program


@functools.cache
def _module(name: str) -> Path:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("Go is not installed: the schemas of CRDs could NOT be fetched, objects were not checked")
    done = subprocess.run(
        [go, "mod", "download", "-json", name], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        pytest.skip(f"{name} could NOT be fetched, its objects were not checked: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


def strict(schema: Any) -> Any:
    """`schema` so that a field it does not name is an error, as `kubectl apply --validate=strict` has it."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if out.pop("x-kubernetes-int-or-string", False):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    closed = isinstance(out.get("properties"), dict) and "additionalProperties" not in out
    if closed and not out.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


def of_crd(crd: dict[str, Any]) -> dict[str, Schema]:
    """`group/kind_version` to schema, of each version of a CustomResourceDefinition."""
    spec = crd["spec"]
    found = {}
    for version in spec["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        schema["additionalProperties"] = False
        found[f"{spec['group']}/{spec['names']['kind'].lower()}_{version['name']}"] = schema
    return found


def of_kubernetes(swagger: dict[str, Any]) -> dict[str, Schema]:
    """`group/kind_version` to schema, of Kubernetes' own kinds; the core group is called `v1`, as kubeconform calls it."""
    definitions = {name: strict(each) for name, each in swagger["definitions"].items()}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {
        "anyOf": [{"type": "string"}, {"type": "number"}]
    }
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {
        "anyOf": [{"type": "string"}, {"type": "integer"}]
    }
    # Recursive, and open: a schema of CRDs is not what these tests are about.
    definitions["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"] = {
        "type": "object"
    }
    found = {}
    for name, each in swagger["definitions"].items():
        for kind in each.get("x-kubernetes-group-version-kind", []):
            if "properties" in each and "kind" in each["properties"]:
                reached = _reached(name, definitions)
                found[f"{kind['group'] or 'v1'}/{kind['kind'].lower()}_{kind['version']}"] = {
                    "$ref": f"#/definitions/{name}",
                    "definitions": {part: definitions[part] for part in reached},
                }
    return found


def _reached(name: str, definitions: dict[str, Schema]) -> set[str]:
    seen, waiting = set(), [name]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += re.findall(r'"#/definitions/([^"]+)"', json.dumps(definitions[each]))
    return seen


def folder() -> Path:
    """Where the schemas are, written when they are not there yet: `GROUP/KIND_VERSION.json`."""
    cache = Path(os.environ.get("CLICKMILL_CLUSTER_CACHE") or generate.ROOT / ".cache" / "cluster")
    target = cache / "schemas"
    done = target / "sources.json"
    sources = {"kubernetes": KUBERNETES, **CRDS}
    if not done.exists() or json.loads(done.read_text()) != sources:
        kinds = of_kubernetes(
            json.loads((_module(KUBERNETES) / "api" / "openapi-spec" / "swagger.json").read_text())
        )
        for module, pattern in CRDS.items():
            for path in sorted(_module(module).glob(pattern)):
                for crd in yaml.load_all(path.read_text(), Loader=rendering.Loader):
                    if crd:
                        kinds |= of_crd(crd)
        write(kinds, target)
        done.write_text(json.dumps(sources))
    return target


def write(kinds: dict[str, Schema], target: Path) -> None:
    """One file for each kind and version."""
    for name, schema in kinds.items():
        path = target / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema))


def check(text: str, *folders: Path, unknown: tuple[str, ...] = ()) -> tuple[list[str], int]:
    """What kubeconform says against the YAML documents, and how many it found valid. unknown: kinds without a schema."""
    command = [kubeconform(), "-strict", "-output", "json", "-summary", "-skip", ",".join(unknown)]
    for each in folders:
        command += [
            "-schema-location",
            str(each) + "/{{ .Group }}/{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json",
        ]
    done = subprocess.run([*command, "-"], input=text, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    problems = [
        f"{each['kind']} {each['name']}: {each['msg']}"
        for each in report["resources"]
        if each["status"] not in {"statusValid", "statusSkipped"}
    ]
    return problems, report["summary"]["valid"]
