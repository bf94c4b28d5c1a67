"""The compiled pipelines are those the code compiles to, and carry what a cluster needs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from clickmill.errors import UsageError
from components.image import DEFAULT_IMAGE
from pipelines.build import Build, Resources
from pipelines.compile import COMPILED, VARIANTS
from pipelines.ctr import compile_pipeline

STEPS = {"calibrate", "deploy", "preprocess", "report", "train", "validate-data", "validate-model"}


def documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline itself, and the part of it that only Kubernetes reads (empty when there is none)."""
    found = list(yaml.safe_load_all(path.read_text()))
    return found[0], found[1] if len(found) > 1 else {}


def container(pipeline: dict[str, Any], step: str) -> dict[str, Any]:
    return pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_committed_yaml_is_what_the_code_compiles_to(name: str, tmp_path: Path) -> None:
    fresh = compile_pipeline(tmp_path / name, **VARIANTS[name])
    assert fresh.read_text() == (COMPILED / name).read_text(), "run `make gen` and commit the result"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_step_has_the_image_and_bounds_on_what_it_may_use(name: str) -> None:
    pipeline, _ = documents(COMPILED / name)
    assert set(pipeline["deploymentSpec"]["executors"]) == {f"exec-{step}" for step in STEPS}
    for step in STEPS:
        found = container(pipeline, step)
        assert found["image"] == DEFAULT_IMAGE
        bounds = {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"}
        assert bounds <= set(found["resources"]), step


def tasks(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = [pipeline["root"], *(c for c in pipeline["components"].values() if "dag" in c)]
    return {name: task for group in groups for name, task in group["dag"]["tasks"].items()}


def test_every_step_is_retried_and_only_what_depends_on_nothing_else_is_cached() -> None:
    found = tasks(documents(COMPILED / "ctr.yaml")[0])
    assert all(found[step]["retryPolicy"]["maxRetryCount"] == 2 for step in STEPS)
    cached = {step for step in STEPS if found[step]["cachingOptions"].get("enableCache")}
    assert cached == {"validate-data", "preprocess", "train"}


def test_the_deployment_hangs_on_the_gate_and_the_report_on_nothing() -> None:
    pipeline, _ = documents(COMPILED / "ctr.yaml")
    found = tasks(pipeline)
    condition = next(task for name, task in found.items() if name.startswith("condition"))
    assert condition["triggerPolicy"]["condition"].endswith("== 'promote'")
    assert found["report"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    loop = next(task for name, task in found.items() if name.startswith("for-loop"))
    assert loop["parameterIterator"]["items"]["inputParameter"].endswith("models")


def test_titles_are_what_the_ui_shows() -> None:
    found = tasks(documents(COMPILED / "ctr.yaml")[0])
    assert {found[step]["taskInfo"]["name"] for step in STEPS} == {
        "Calibrate",
        "Deploy",
        "Preprocess",
        "Report",
        "Train",
        "Validate data",
        "Validate model",
    }


def test_the_plain_variant_asks_for_no_gpu() -> None:
    pipeline, kubernetes = documents(COMPILED / "ctr.yaml")
    assert "accelerator" not in container(pipeline, "train")["resources"]
    assert kubernetes == {}


def test_the_gpu_variant_sends_training_and_nothing_else_to_gpu_nodes() -> None:
    pipeline, kubernetes = documents(COMPILED / "ctr-gpu.yaml")
    accelerator = container(pipeline, "train")["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert accelerator["resourceCount"] == "1"
    assert all("accelerator" not in container(pipeline, step)["resources"] for step in STEPS - {"train"})
    executors = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {"exec-train"}
    assert executors["exec-train"]["nodeSelector"]["labels"] == {"nvidia.com/gpu.present": "true"}
    (toleration,) = executors["exec-train"]["tolerations"]
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_number_and_kind_of_gpus_and_the_bounds_of_training_are_knobs(tmp_path: Path) -> None:
    large = Resources(cpu_request="16", cpu_limit="32", memory_request="64Gi", memory_limit="96Gi")
    path = compile_pipeline(tmp_path / "p.yaml", gpus=4, gpu_type="amd.com/gpu", training=large)
    pipeline, kubernetes = documents(path)
    found = container(pipeline, "train")["resources"]
    assert (found["accelerator"]["resourceType"], found["accelerator"]["resourceCount"]) == (
        "amd.com/gpu",
        "4",
    )
    assert (found["resourceCpuRequest"], found["resourceCpuLimit"]) == ("16", "32")
    assert (found["resourceMemoryRequest"], found["resourceMemoryLimit"]) == ("64Gi", "96Gi")
    assert container(pipeline, "calibrate")["resources"]["resourceMemoryLimit"] == "8Gi"
    executors = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["tolerations"][0]["key"] == "amd.com/gpu"


def test_volumes_are_mounted_into_every_step_and_the_image_can_be_chosen(tmp_path: Path) -> None:
    image = "registry.example/ads/clickmill-python:7"
    path = compile_pipeline(
        tmp_path / "p.yaml", volumes={"ads-logs": "/mnt/logs"}, image=image, retries=0, caching=False
    )
    pipeline, kubernetes = documents(path)
    executors = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{step}" for step in STEPS}
    for step in STEPS:
        (mount,) = executors[f"exec-{step}"]["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("ads-logs", "/mnt/logs")
        assert container(pipeline, step)["image"] == image
    found = tasks(pipeline)
    assert not any("retryPolicy" in found[step] for step in STEPS)
    assert not any(found[step]["cachingOptions"].get("enableCache") for step in STEPS)


def test_knobs_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="not a container image reference"):
        Build(image="Not An Image")
    with pytest.raises(ValidationError, match="must be absolute"):
        Build(volumes={"ads-logs": "mnt"})
    with pytest.raises(ValidationError, match="gpu"):
        Build(gpu=1)  # type: ignore[call-arg]
