"""Which devices and machines a process trains on: what TF_CONFIG says of the cluster, and the GPUs it sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from clickmill.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

VARIABLE = "TF_CONFIG"
ROLES = ("chief", "worker")


def workers(config: str) -> int:
    """How many workers `config`, the text of TF_CONFIG, names; 1 for an empty one.

        {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}

    It is what Kubeflow's TFJob gives each pod. Raises UsageError for one that names no cluster and place in it, or roles of another kind
    of training (ps).
    """
    if not config.strip():
        return 1
    try:
        document = json.loads(config)
        cluster: dict[str, Any] = document.get("cluster") or {}
        task = document.get("task") or {}
        foreign = sorted(set(cluster) - {*ROLES, "evaluator"})
        if foreign:
            raise UsageError(
                f"{VARIABLE}: role {foreign[0]!r} has no part in this training; use {' and '.join(ROLES)} only"
            )
        count = sum(len(cluster.get(role, ())) for role in ROLES)
        if count > 1 and not (
            task.get("type") in ROLES and 0 <= int(task["index"]) < len(cluster.get(task["type"], ()))
        ):
            raise UsageError(
                f"{VARIABLE}: task {json.dumps(task)} is none of the cluster's; type must be "
                f"{' or '.join(ROLES)}, and index count from 0 within it"
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{VARIABLE}: not a cluster description ({error}); it should look like "
            '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    return max(count, 1)


def strategy(config: str = "") -> tf.distribute.Strategy | None:
    """The strategy for this process: all workers of TF_CONFIG (`config` is its text), else all GPUs, else None, which is one device.

    Call it before anything else of TensorFlow: the connection between workers is part of its start. It waits for the others. In each
    process all GPUs that it sees take part. Ask once per process: two strategies would take each other's messages for their own.
    Raises UsageError as `workers`.
    """
    count = workers(config)
    import tensorflow as tf

    if count > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy() if len(tf.config.list_logical_devices("GPU")) > 1 else None
