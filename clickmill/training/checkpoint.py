"""Where a run stands, on disk: all variables in a TensorFlow checkpoint and the rest in `state.json`.

The weights are written first under a new name, then `state.json` is replaced in one move: a crash at any moment leaves the old
checkpoint or the new one, never half of both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tensorflow as tf
from pydantic import BaseModel

from clickmill.errors import TrainingError


class EvaluationRecord(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What an evaluation on the validation split found, and how the steps since the one before went."""

    epoch: float
    """Passes over the train split so far: 1.5 is the middle of the second."""
    loss: float
    """Mean training loss over the batches since the last evaluation, each taken before its step (weighted by w+)."""
    ne: float
    """Normalized entropy on the validation split, corrected for w+. Lower is better."""
    auc: float
    """AUC on the validation split."""
    rate: float
    """What the learning rates were multiplied by since the last evaluation."""
    samples_per_second: float
    """Training rows per second since the last evaluation, without validation."""


class RunState(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Where a run stands between two steps."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Steps done in the current epoch."""
    rows: int = 0
    """Rows of the steps since the last evaluation."""
    loss_sum: float = 0.0
    """Sum of row counts times losses of the steps since the last evaluation."""
    seconds: float = 0.0
    """Time spent in the steps since the last evaluation."""
    history: tuple[EvaluationRecord, ...] = ()
    """Evaluations so far."""

    def watched(self, by: Literal["ne", "auc"]) -> tuple[float, ...]:
        """What the schedule decides from: NE of each evaluation, or AUC with its sign turned, so that lower is better either way."""
        return tuple(record.ne if by == "ne" else -record.auc for record in self.history)


class Checkpoints:
    """Saves and restores one run in `folder`. `identity` names everything that decides the run's weights.

    writes: whether this process saves; of a team all restore and one does.
    """

    def __init__(
        self, folder: Path, variables: Sequence[tf.Variable], identity: str, *, writes: bool = True
    ) -> None:
        self.folder = folder
        self._writes = writes
        self._identity = identity
        self._checkpoint = tf.train.Checkpoint(variables=list(variables))

    @property
    def best_weights(self) -> Path:
        """Weights of the best evaluation so far."""
        return self.folder / "best.weights.h5"

    @property
    def best_row_state(self) -> Path:
        """What the optimizers kept per embedding row then."""
        return self.folder / "best.row_state"

    def save(self, state: RunState) -> None:
        """Write the variables and the state. Earlier checkpoints go when the new one is complete."""
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix = f"step-{state.epoch:04d}-{state.step:09d}"
        self._checkpoint.write(str(self.folder / prefix))
        document = {"identity": self._identity, "weights": prefix, "state": state.model_dump()}
        temporary = self.folder / "state.json.new"
        temporary.write_text(json.dumps(document, indent=1))
        os.replace(temporary, self.folder / "state.json")
        for old in self.folder.glob("step-*"):
            if not old.name.startswith(prefix + "."):
                old.unlink()

    def restore(self) -> RunState | None:
        """Load the variables and return the state; None when no run was started here.

        Raises TrainingError when the checkpoint belongs to another configuration or other data.
        """
        path = self.folder / "state.json"
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_text())
            identity, weights = document["identity"], document["weights"]
            state = RunState.model_validate(document["state"])
        except (ValueError, KeyError) as error:
            raise TrainingError(
                f"{path}: not a readable checkpoint ({error}); remove {self.folder}"
            ) from error
        if identity != self._identity:
            raise TrainingError(
                f"{self.folder}: holds the checkpoint of a run with another model, configuration, feature space or data; "
                "finish that run with its own settings, give another `out`, or remove the folder to start anew"
            )
        try:
            self._checkpoint.read(str(self.folder / weights)).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            raise TrainingError(
                f"{self.folder / weights}: the checkpoint can't be read; remove {self.folder} to start anew: {error}"
            ) from error
        return state
