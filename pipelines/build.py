"""What is decided when a pipeline is compiled, not when it runs: image, resources, GPU, volumes, retries, caching."""

from __future__ import annotations

from pathlib import PurePosixPath

from kfp import dsl, kubernetes
from pydantic import BaseModel, Field, field_validator

from components.image import IMAGE, checked

GPU = "nvidia.com/gpu"


class Resources(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What the pod of a step asks for and may use at most."""

    cpu_request: str
    """Cores the scheduler keeps for the step: `500m`, `2`."""
    cpu_limit: str
    """Cores the step may use when they are free."""
    memory_request: str
    """Memory the scheduler keeps for the step: `2Gi`."""
    memory_limit: str
    """Memory above which the step is killed."""


LIGHT = Resources(cpu_request="250m", cpu_limit="1", memory_request="512Mi", memory_limit="2Gi")
"""Copies a folder, writes a page."""
MODEL = Resources(cpu_request="1", cpu_limit="4", memory_request="2Gi", memory_limit="8Gi")
"""Loads a model and scores a split."""
TABLES = Resources(cpu_request="2", cpu_limit="8", memory_request="3Gi", memory_limit="8Gi")
"""Streams tables through DuckDB, which uses every core it is given and spills to disk."""
TRAINING = Resources(cpu_request="4", cpu_limit="8", memory_request="8Gi", memory_limit="16Gi")
"""Trains; the encoded train split and, without a GPU, the embedding tables stand in memory."""


class Build(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The knobs of `compile_pipeline`."""

    image: str = IMAGE
    """Container image of every step; it holds Python, the library and kfp."""
    training: Resources = TRAINING
    """Processors and memory of the train step; `clickmill model size` tells what a model wants."""
    gpus: int = Field(default=0, ge=0, le=16)
    """GPUs that the train step asks for and may use; it trains on all of them, each with its part of every batch."""
    gpu_type: str = GPU
    """Resource name of the GPU as the cluster's device plugin publishes it."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes on which the train step may run."""
    volumes: dict[str, str] = {}
    """PersistentVolumeClaims mounted into every step, name to mount path: where logs, store and work folder live."""
    retries: int = Field(default=2, ge=0, le=20)
    """Times a failed step is started again, after 30, 60, 120 ... seconds. Training goes on from its checkpoint if `work` is on a volume."""
    caching: bool = True
    """Whether a step with the same inputs is skipped. The gate, the deployment and the report always run."""
    models_at_once: int = Field(default=0, ge=0)
    """Models trained side by side; 0 is all of them."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        return checked(value)

    @field_validator("volumes")
    @classmethod
    def _mounts(cls, value: dict[str, str]) -> dict[str, str]:
        for claim, path in value.items():
            if not PurePosixPath(path).is_absolute():
                raise ValueError(
                    f"volume {claim!r}: mount path {path!r} must be absolute, such as '/mnt/clickmill'"
                )
        return value

    def equip(
        self, task: dsl.PipelineTask, title: str, resources: Resources, *, cached: bool = True
    ) -> dsl.PipelineTask:
        """Give a task its title, image, resources, volumes, retries and caching."""
        task.set_display_name(title)
        if self.image != IMAGE:
            task.set_container_image(self.image)
        task.set_cpu_request(resources.cpu_request).set_cpu_limit(resources.cpu_limit)
        task.set_memory_request(resources.memory_request).set_memory_limit(resources.memory_limit)
        task.set_caching_options(self.caching and cached)
        if self.retries:
            task.set_retry(
                self.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s"
            )
        for claim, path in self.volumes.items():
            kubernetes.mount_pvc(task, claim, path)
        return task

    def accelerate(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Send a task to the GPU nodes: the request, the node selector, and the toleration of the taint such nodes carry."""
        if self.gpus:
            task.set_accelerator_type(self.gpu_type).set_accelerator_limit(self.gpus)
            kubernetes.add_toleration(task, key=self.gpu_type, operator="Exists", effect="NoSchedule")
        for label, value in self.node_selector.items():
            kubernetes.add_node_selector(task, label, value)
        return task
