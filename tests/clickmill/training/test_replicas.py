"""Several replicas do what one would: real worker processes on loopback, devices of one process, a lost worker, a stopped one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clickmill.features import FeatureSpace
from clickmill.training import TrainedModel, TrainingConfig, train

INTERVAL = 10
# 1025 rows in batches of 64: the last batch is one row, so one of two replicas has none.
CONFIG = TrainingConfig(epochs=4, patience=9, batch_size=64, checkpoint_every_steps=INTERVAL)
STEPS = 17
MODELS = {
    "dcn_v2": {"units": [8], "dropout": 0.0, "dim": 4, "cross_layers": 1},
    "din": {"units": [8], "dropout": 0.0, "dim": 4, "activation": "dice", "attention_units": [4]},
}

# Says each step, and is slow enough to be caught in the middle.
WORKER = """
import os, sys, time
from pathlib import Path
from clickmill.training.cluster import strategy
together = strategy(os.environ["TF_CONFIG"])
from clickmill.data import PreparedDataset
from clickmill.errors import TrainingError
from clickmill.features import FeatureSpace
from clickmill.training import TrainingConfig, train

class Saying:
    steps = 0
    def start(self, task, total, unit): pass
    def advance(self, n=1, **figures):
        if figures:
            self.steps += 1
            print("step", self.steps, flush=True)
            time.sleep(0.02)
    def finish(self): pass

root, out = Path(sys.argv[1]), Path(sys.argv[2])
try:
    train(PreparedDataset.open(root), FeatureSpace.load(root / "space"), "dcn_v2", model_config={model!r},
          config=TrainingConfig.model_validate_json(sys.argv[3]), strategy=together, out=out, progress=Saying())
except TrainingError as error:
    sys.exit(f"TrainingError: {error}")
except KeyboardInterrupt as stopped:
    print(stopped, flush=True)
    sys.exit(130)
""".replace("{model!r}", repr(MODELS["dcn_v2"]))

DEVICES = """
import json, sys
from pathlib import Path
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
together = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from clickmill.data import PreparedDataset
from clickmill.features import FeatureSpace
from clickmill.training import TrainingConfig, train

root, out = Path(sys.argv[1]), Path(sys.argv[2])
for name, config in json.loads(sys.argv[4]).items():
    train(PreparedDataset.open(root), FeatureSpace.load(root / "space"), name, model_config=config,
          config=TrainingConfig.model_validate_json(sys.argv[3]), strategy=together, out=out / name)
"""


@pytest.fixture(scope="module")
def alone(shared, tmp_path_factory) -> dict[str, TrainedModel]:
    """What one process makes of it, undisturbed."""
    space = FeatureSpace.load(shared.root / "space")
    out = tmp_path_factory.mktemp("alone")
    return {
        name: train(shared, space, name, model_config=config, config=CONFIG, out=out / name)
        for name, config in MODELS.items()
    }


def _assert_same(model: TrainedModel, expected: TrainedModel) -> None:
    for got, want in zip(model.keras_model.get_weights(), expected.keras_model.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert len(model.meta["history"]) == CONFIG.epochs
    for got, want in zip(model.meta["history"], expected.meta["history"], strict=True):
        for figure in ("loss", "ne", "auc"):
            assert got[figure] == pytest.approx(want[figure], rel=1e-5)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def start_workers(shared, tmp_path):
    """Starts two workers that train into the same folder; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen] = []

    def start(out: Path) -> list[subprocess.Popen]:
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
        for index in range(2):
            place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(shared.root), str(out), CONFIG.model_dump_json()],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"TF_CONFIG": json.dumps(place), "TF_CPP_MIN_LOG_LEVEL": "2"},
                )
            )
        return started[-2:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _steps(said: str) -> int:
    return max(int(line.split()[1]) for line in said.splitlines() if line.startswith("step "))


def _saved(out: Path) -> int:
    """Steps in the checkpoint, counted from the start; 0 without one."""
    path = out / "checkpoint" / "state.json"
    if not path.exists():
        return 0
    state = json.loads(path.read_text())["state"]
    return state["epoch"] * STEPS + state["step"]


def _wait_for_the_second_epoch(out: Path, workers: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 240
    while _saved(out) <= STEPS and all(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.15)  # past the checkpoint


def test_a_killed_worker_ends_the_others_and_all_go_on_from_the_checkpoint(alone, start_workers, tmp_path):
    chief, other = start_workers(tmp_path)
    _wait_for_the_second_epoch(tmp_path, [chief, other])
    other.send_signal(signal.SIGKILL)
    said, errors = chief.communicate(
        timeout=60
    )  # bounded: a dead peer is found at once, a hanging one in 10 s
    assert chief.returncode == 1, errors
    assert "TrainingError: another worker stopped, hangs or can't be reached" in errors
    assert f"training goes on from the checkpoint in {tmp_path}" in errors
    done, saved = _steps(said), _saved(tmp_path)
    assert STEPS < done < CONFIG.epochs * STEPS  # it was caught in the middle
    assert 0 <= done - saved <= INTERVAL

    workers = start_workers(tmp_path)
    outputs = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [_steps(said) for said, _ in outputs] == [CONFIG.epochs * STEPS - saved] * 2
    _assert_same(TrainedModel.load(tmp_path), alone["dcn_v2"])
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.integration
def test_sigterm_to_one_worker_stops_all_after_the_same_step_and_one_process_may_finish(
    shared, alone, start_workers, tmp_path
):
    workers = start_workers(tmp_path)
    _wait_for_the_second_epoch(tmp_path, workers)
    workers[1].send_signal(signal.SIGTERM)
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [130, 130], outputs
    assert all("Run the same command again to go on from there" in said for said, _ in outputs)
    assert {_steps(said) for said, _ in outputs} == {_saved(tmp_path)}
    space = FeatureSpace.load(shared.root / "space")
    model = train(shared, space, "dcn_v2", model_config=MODELS["dcn_v2"], config=CONFIG, out=tmp_path)
    _assert_same(model, alone["dcn_v2"])


def test_two_devices_of_one_process_do_what_one_does(shared, alone, tmp_path):
    """Dice takes the moments of the whole batch, of which each device sees a part."""
    subprocess.run(
        [
            sys.executable,
            "-c",
            DEVICES,
            str(shared.root),
            str(tmp_path),
            CONFIG.model_dump_json(),
            json.dumps(MODELS),
        ],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
    )
    for name in MODELS:
        _assert_same(TrainedModel.load(tmp_path / name), alone[name])
