"""Who trains one model together: this process alone, or several replicas on several devices and machines (`training.replicas`).

Every process of a team runs the same program and takes the same turns; where only one may act (write a file), it is the chief.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import tensorflow as tf

from clickmill.errors import TrainingError
from clickmill.training.checkpoint import RunState
from clickmill.training.config import TrainingConfig
from clickmill.training.encoded import EncodedSplit
from clickmill.training.step import TrainStep

if TYPE_CHECKING:
    import keras

Predict = Callable[[EncodedSplit], np.ndarray]
"""Logits (n,) of a split, with the model's weights as they are at the call."""
PREDICT_ROWS = 16_384


class Team(Protocol):
    """The seam between the training loop and the devices it runs on."""

    chief: bool
    """Whether this process writes the files of the run."""

    def variables(self) -> AbstractContextManager[object]:
        """Within it variables are made: one copy per device."""
        ...

    def step(
        self,
        model: keras.Model,
        config: TrainingConfig,
        batch: Mapping[str, np.ndarray],
        split: EncodedSplit,
    ) -> TrainStep:
        """The training step of the whole team; every process calls it with the same, whole batch. `split` as TrainStep has it."""
        ...

    def predictor(self, model: keras.Model, split: EncodedSplit) -> Predict:
        """The model as a function of a split like this one; every process calls it, and gets the same, all logits."""
        ...

    def chief_first(self, folder: Path) -> AbstractContextManager[None]:
        """The chief runs the body, and writes in `folder`; when it has, the others run it."""
        ...

    def of_chief(self, values: Sequence[float]) -> list[float]:
        """The chief's values in every process."""
        ...

    def any(self, said: bool) -> bool:
        """Whether a process said so."""
        ...

    def losses(self, out: Path) -> AbstractContextManager[None]:
        """Within it the loss of a process is a TrainingError that tells how to go on in `out`."""
        ...


class Alone:
    """The team of one."""

    chief = True

    def variables(self) -> AbstractContextManager[object]:
        return nullcontext()

    def step(
        self,
        model: keras.Model,
        config: TrainingConfig,
        batch: Mapping[str, np.ndarray],
        split: EncodedSplit,
    ) -> TrainStep:
        return TrainStep(model, config, batch, split)

    def predictor(self, model: keras.Model, split: EncodedSplit) -> Predict:
        spec = signature(split)

        @tf.function(input_signature=[spec])
        def logits(batch: dict[str, tf.Tensor]) -> tf.Tensor:
            return model(batch, training=False)

        def predict(split: EncodedSplit) -> np.ndarray:
            blocks = split.batches(PREDICT_ROWS)
            return np.concatenate(
                [logits({key: tf.constant(b[key]) for key in spec}).numpy() for b in blocks]
            )

        return predict

    @contextmanager
    def chief_first(self, folder: Path) -> Iterator[None]:
        yield

    def of_chief(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def any(self, said: bool) -> bool:
        return said

    def losses(self, out: Path) -> AbstractContextManager[None]:
        return nullcontext()


def agree(team: Team, state: RunState, identity: str, work: Path) -> None:
    """Raises TrainingError where this worker was given something else to do than the chief, or stands elsewhere."""
    ours = [int(identity[:12], 16), state.epoch, state.step, len(state.history)]
    chiefs = team.of_chief(ours)
    if chiefs[0] != ours[0]:
        raise TrainingError(
            "this worker was started with another model, configuration, feature space or data than the chief; "
            "start all workers with the same command, on the same dataset"
        )
    if chiefs != ours:
        raise TrainingError(
            f"{work}: holds another checkpoint than the chief's (epoch {state.epoch + 1}, step {state.step}, the chief is at epoch "
            f"{chiefs[1] + 1:.0f}, step {chiefs[2]:.0f}); all workers need the same `out`, on a disk that they share"
        )


def signature(split: EncodedSplit) -> dict[str, tf.TensorSpec]:
    """Inputs of a batch of such a split, of any number of rows."""
    return {
        key: tf.TensorSpec([None, *split.arrays[key].shape[1:]], split.arrays[key].dtype)
        for key in split.inputs
    }
