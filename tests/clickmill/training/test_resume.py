"""Ctrl-C and crashes: what was trained is kept, and the same call ends where an undisturbed run would."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clickmill.errors import TrainingError
from clickmill.training import TrainedModel, TrainingConfig, train

# 3000 rows in batches of 64 are 47 steps an epoch, evaluated after 15, 31 and 47. The rate falls after every evaluation but a better one.
CONFIG = TrainingConfig(
    epochs=2,
    batch_size=64,
    embedding_learning_rate=8.0,
    checkpoint_every_steps=10,
    evaluations_per_epoch=3,
    patience=9,
    rate_decay=0.5,
)
MODEL = {"units": [8], "dropout": 0.3, "dim": 4, "cross_layers": 1}

# Trains slowly enough to be caught in the middle: a pause after each step stands in for a larger model.
PROGRAM = """
import sys, time
from pathlib import Path
from clickmill.data import PreparedDataset
from clickmill.features import fit
from clickmill.training import TrainingConfig, train

class Slow:
    def start(self, task, total, unit): print("task", task, flush=True)
    def advance(self, n=1, **figures):
        if figures: time.sleep(0.03)
    def finish(self): pass

dataset = PreparedDataset.open(sys.argv[1])
try:
    train(dataset, fit(dataset), "dcn_v2", model_config={model!r},
          config=TrainingConfig.model_validate_json(sys.argv[3]), out=Path(sys.argv[2]), progress=Slow())
except KeyboardInterrupt as stopped:
    print(stopped, flush=True)
    sys.exit(130)
""".replace("{model!r}", repr(MODEL))


class Stop(Exception):
    """Stands in for a crash."""


class StopAt:
    """Progress that interrupts after so many steps, the way Ctrl-C or a crash would."""

    def __init__(self, step, action):
        self.left, self.action = step, action

    def start(self, task, total, unit):
        pass

    def advance(self, n=1, **figures):
        if figures:
            self.left -= 1
            if self.left == 0:
                self.action()

    def finish(self):
        pass


def _crash():
    raise Stop


def _ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def undisturbed(dataset, space, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return train(dataset, space, "dcn_v2", model_config=MODEL, config=CONFIG, out=out)


def _assert_same_end(model: TrainedModel, undisturbed: TrainedModel) -> None:
    for got, expected in zip(
        model.keras_model.get_weights(), undisturbed.keras_model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    for got, expected in zip(model.meta["history"], undisturbed.meta["history"], strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert got["ne"] == pytest.approx(expected["ne"], rel=1e-6)
        assert got["rate"] == expected["rate"]


def _resume(dataset, space, out) -> TrainedModel:
    return train(dataset, space, "dcn_v2", model_config=MODEL, config=CONFIG, out=out)


def test_ctrl_c_in_a_real_process_saves_and_the_same_call_goes_on(dataset, space, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(dataset.root), str(out), CONFIG.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    state = out / "checkpoint" / "state.json"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if state.exists() and json.loads(state.read_text())["state"]["epoch"] == 1:
            break
        time.sleep(0.02)
    time.sleep(0.1)  # into the middle of the second epoch
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Run the same command again to go on from there" in output
    assert str(out / "checkpoint") in output
    saved = json.loads(state.read_text())["state"]
    assert saved["epoch"] == 1
    assert 0 < saved["step"] < 3000 // 64  # neither at an epoch's edge
    assert not (out / "model.json").exists()
    _assert_same_end(_resume(dataset, space, out), undisturbed)
    assert not (out / "checkpoint").exists()


@pytest.mark.parametrize("step", [1, 15, 47, 70, 78])
def test_ctrl_c_at_any_step_loses_nothing(step, dataset, space, undisturbed, tmp_path):
    """The 15th step and the 31st of the second epoch stand before an evaluation, the 47th, of 56 rows, at the end of an epoch."""
    with pytest.raises(KeyboardInterrupt, match="Run the same command again"):
        train(
            dataset,
            space,
            "dcn_v2",
            model_config=MODEL,
            config=CONFIG,
            out=tmp_path,
            progress=StopAt(step, _ctrl_c),
        )
    _assert_same_end(_resume(dataset, space, tmp_path), undisturbed)


def test_adam_over_the_table_and_batch_norm_go_on_where_they_were(dataset, space, tmp_path):
    config = CONFIG.model_copy(
        update={
            "embedding_optimizer": "table_adam",
            "sparse_adam_learning_rate": 0.01,
            "l2": 1e-3,
            "epochs": 1,
        }
    )
    settings = {"model_config": {**MODEL, "batch_norm": True}, "config": config}
    whole = train(dataset, space, "dcn_v2", out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, space, "dcn_v2", out=tmp_path / "cut", progress=StopAt(20, _ctrl_c), **settings)
    _assert_same_end(train(dataset, space, "dcn_v2", out=tmp_path / "cut", **settings), whole)


@pytest.mark.parametrize(
    "optimizers", [{"embedding_optimizer": "adam"}, {"linear_optimizer": "ftrl", "ftrl_l1": 0.1}]
)
def test_every_optimizer_goes_on_where_it_stood(optimizers, dataset, space, tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1, **optimizers})
    ends = []
    for name, crash in (("whole", None), ("broken", 27)):
        arguments = {"model_config": {"dim": 4}, "config": config, "out": tmp_path / name}
        if crash:
            with pytest.raises(Stop):
                train(dataset, space, "fm", **arguments, progress=StopAt(crash, _crash))
        ends.append(train(dataset, space, "fm", **arguments))
    _assert_same_end(*reversed(ends))


def test_a_crash_loses_only_the_steps_since_the_last_checkpoint(dataset, space, undisturbed, tmp_path):
    with pytest.raises(Stop):
        train(
            dataset,
            space,
            "dcn_v2",
            model_config=MODEL,
            config=CONFIG,
            out=tmp_path,
            progress=StopAt(47 + 27, _crash),
        )
    saved = json.loads((tmp_path / "checkpoint" / "state.json").read_text())["state"]
    assert (saved["epoch"], saved["step"]) == (1, 20)
    _assert_same_end(_resume(dataset, space, tmp_path), undisturbed)


def test_the_course_that_is_resumed_has_a_rate_that_fell(undisturbed):
    """Else the tests above would not see a rate that was lost."""
    rates = [record["rate"] for record in undisturbed.meta["history"]]
    assert len(rates) == 6
    assert rates[0] == 1
    assert rates[4] < 1


def test_the_signal_handler_is_put_back(dataset, space, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(dataset, space, "lr", config=CONFIG.model_copy(update={"epochs": 1}), out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def interrupted(dataset, space, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Stop):
        train(
            dataset, space, "dcn_v2", model_config=MODEL, config=CONFIG, out=out, progress=StopAt(15, _crash)
        )
    return out


def test_the_checkpoint_of_another_configuration_is_refused(dataset, space, interrupted):
    with pytest.raises(TrainingError, match="another model, configuration, feature space or data"):
        train(
            dataset,
            space,
            "dcn_v2",
            model_config=MODEL,
            config=CONFIG.model_copy(update={"seed": 1}),
            out=interrupted,
        )


def test_the_checkpoint_of_other_data_is_refused(space, market, write, rows, interrupted):
    other = write(market, {"train": rows(3000, 5), "validation": rows(500, 6)}, digest="1")
    with pytest.raises(TrainingError, match="remove the folder to start anew"):
        _resume(other, space, interrupted)


def test_a_broken_checkpoint_is_named(dataset, space, tmp_path):
    with pytest.raises(Stop):
        train(
            dataset,
            space,
            "dcn_v2",
            model_config=MODEL,
            config=CONFIG,
            out=tmp_path,
            progress=StopAt(15, _crash),
        )
    (index,) = (tmp_path / "checkpoint").glob("step-*.index")
    index.write_bytes(b"not an index")
    with pytest.raises(TrainingError, match="the checkpoint can't be read"):
        _resume(dataset, space, tmp_path)
