"""Who the workers are, and that they do the same."""

import json
from pathlib import Path

import pytest

from clickmill.errors import TrainingError, UsageError
from clickmill.training.checkpoint import RunState
from clickmill.training.cluster import workers
from clickmill.training.team import Alone, agree


def config(cluster, task) -> str:
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 1),
        ("  ", 1),
        ("{}", 1),
        (config({"worker": ["a:1"]}, {"type": "worker", "index": 0}), 1),
        (config({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}), 2),
        (config({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "chief", "index": 0}), 3),
    ],
)
def test_the_workers_of_a_cluster_are_counted(text, expected):
    assert workers(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{worker}", "TF_CONFIG: not a cluster description"),
        ("[]", "TF_CONFIG: not a cluster description"),
        (config({"worker": ["a:1", "b:1"]}, {"type": "worker"}), "TF_CONFIG: not a cluster description"),
        (config({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 2}), "is none of the cluster's"),
        (config({"worker": ["a:1", "b:1"]}, {"type": "chief", "index": 0}), "is none of the cluster's"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}, {"type": "ps", "index": 0}), "role 'ps' has no part"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        workers(text)


class Beside(Alone):
    """A worker whose chief has these values."""

    def __init__(self, *values):
        self.values = list(values)

    def of_chief(self, values):
        return self.values


IDENTITY = "0123456789ab" + 52 * "0"
NUMBER = 0x0123456789AB


def test_a_worker_that_does_the_same_as_its_chief_goes_on():
    agree(Beside(float(NUMBER), 1.0, 7.0, 0.0), RunState(epoch=1, step=7, history=()), IDENTITY, Path("w"))


def test_a_worker_with_other_settings_than_its_chief_is_refused():
    with pytest.raises(TrainingError, match="start all workers with the same command"):
        agree(Beside(float(NUMBER + 1), 0.0, 0.0, 0.0), RunState(), IDENTITY, Path("w"))


def test_a_worker_that_does_not_see_the_chiefs_checkpoint_is_refused():
    with pytest.raises(TrainingError, match="epoch 1, step 0, the chief is at epoch 2, step 7") as refused:
        agree(Beside(float(NUMBER), 1.0, 7.0, 0.0), RunState(), IDENTITY, Path("out/checkpoint"))
    assert "all workers need the same `out`, on a disk that they share" in str(refused.value)
