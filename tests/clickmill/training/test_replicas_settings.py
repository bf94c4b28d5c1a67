"""Replicas under each setting that changes a step: two devices of one process against one device."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytest

from clickmill.features import FeatureSpace
from clickmill.training import TrainedModel, TrainingConfig, train


@dataclass(frozen=True)
class Trial:
    """A training to make on one device and on two."""

    settings: dict[str, Any]
    model: str = "dcn_v2"
    options: dict[str, Any] = field(
        default_factory=lambda: {"units": [8], "dropout": 0.0, "dim": 4, "cross_layers": 1}
    )
    begins_with: str | None = None
    """The trial whose model this one begins with."""

    @property
    def config(self) -> TrainingConfig:
        # 1025 rows in batches of 128: the last is one row, so that one of the two devices gets none
        return TrainingConfig(epochs=1, batch_size=128, **self.settings)


LINEAR = {"units": [8], "dropout": 0.0, "dim": 4}
TRIALS = {
    "adagrad": Trial({}),
    "adam": Trial({"embedding_optimizer": "adam"}),
    "table_adam": Trial({"embedding_optimizer": "table_adam", "l2": 1.0}),
    "ftrl": Trial({"linear_optimizer": "ftrl"}, "wide_deep", LINEAR),
    "xla": Trial({"xla": True}),
    "bfloat16": Trial({"precision": "bfloat16"}),
    "warm": Trial({}, begins_with="adagrad"),
    "warm_adam": Trial({"embedding_optimizer": "adam"}, begins_with="adam"),
}

DEVICES = """
import json, sys
from pathlib import Path
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
together = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from clickmill.data import PreparedDataset
from clickmill.features import FeatureSpace
from clickmill.training import TrainedModel, TrainingConfig, train

root, out, alone = (Path(argument) for argument in sys.argv[1:4])
for name, (trial, config) in json.loads(sys.argv[4]).items():
    start = TrainedModel.load(alone / trial["begins_with"]) if trial["begins_with"] else None
    train(PreparedDataset.open(root), FeatureSpace.load(root / "space"), trial["model"], model_config=trial["options"],
          config=TrainingConfig.model_validate(config), start=start, strategy=together, out=out / name)
"""


@pytest.fixture(scope="module")
def pairs(shared, tmp_path_factory) -> dict[str, tuple[TrainedModel, TrainedModel]]:
    """By trial, what one device made of it and what two did."""
    space = FeatureSpace.load(shared.root / "space")
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    for name, trial in TRIALS.items():
        start = TrainedModel.load(alone / trial.begins_with) if trial.begins_with else None
        train(
            shared, space, trial.model, model_config=trial.options, config=trial.config, start=start,
            out=alone / name,
        )  # fmt: skip
    asked = {name: (asdict(trial), trial.config.model_dump(mode="json")) for name, trial in TRIALS.items()}
    subprocess.run(
        [sys.executable, "-c", DEVICES, str(shared.root), str(together), str(alone), json.dumps(asked)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
    )
    return {name: (TrainedModel.load(together / name), TrainedModel.load(alone / name)) for name in TRIALS}


@pytest.mark.parametrize("name", sorted(TRIALS.keys() - {"bfloat16"}))
def test_two_devices_do_what_one_does(name, pairs):
    got, want = pairs[name]
    for ours, theirs in zip(got.keras_model.get_weights(), want.keras_model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(got.row_state, want.row_state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(got.meta["history"], want.meta["history"], strict=True):
        for figure in ("loss", "ne", "auc"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-5)


def test_in_bfloat16_two_devices_differ_by_rounding_only(pairs):
    """Each rounds its part of a weight's gradient to 8 bits before the sum, and Adam makes whole steps of small gradients: weights differ
    by what rounding is worth, which is what separates bfloat16 from float32 on one device too."""
    together, alone = (_flat(model) for model in pairs["bfloat16"])
    rounding = np.linalg.norm(alone - _flat(pairs["adagrad"][1]))
    assert 0 < np.linalg.norm(together - alone) < rounding < 0.1 * np.linalg.norm(alone)
    got, want = (model.meta["history"][0] for model in pairs["bfloat16"])
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-3)


def _flat(model: TrainedModel) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in model.keras_model.get_weights()])


def test_a_setting_changes_what_is_trained(pairs):
    """Else the pairs above would all say the same."""
    plain = pairs["adagrad"][1].keras_model.get_weights()
    for name in ("adam", "table_adam", "bfloat16", "warm"):
        other = pairs[name][1].keras_model.get_weights()
        assert max(np.abs(a - b).max() for a, b in zip(plain, other, strict=True)) > 1e-4, name
