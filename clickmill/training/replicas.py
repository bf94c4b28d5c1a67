"""Several replicas train one model: devices of this process (MirroredStrategy), of several (MultiWorkerMirroredStrategy).

Each replica has a copy of every variable and computes the gradient of its part of the batch. The parts' gradients are summed, which is
the gradient of the whole batch, and every replica applies the same sum: the copies stay equal, and N replicas do what one would
(docs/training.md says where they don't). Dense gradients are all-reduced; of the tables only the rows that the batch names are sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from clickmill.errors import TrainingError
from clickmill.models.replicas import summed
from clickmill.training.config import TrainingConfig
from clickmill.training.encoded import Batch, EncodedSplit
from clickmill.training.step import TrainStep
from clickmill.training.team import PREDICT_ROWS, Predict, signature

if TYPE_CHECKING:
    import keras

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
"""What TensorFlow raises in a worker's collective operation when another worker died, hangs or was started again."""


class BetweenReplicas:
    """The `training.step.Exchange` of replicas."""

    def summed(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        return summed(values)

    def gathered(self, rows: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        context = tf.distribute.get_replica_context()
        # Rows travel beside their gradients: a gather costs a round over all workers, which is slow, more than bytes do.
        widths = [gradient.shape[1] for gradient in gradients]
        packed = tf.concat([tf.bitcast(rows, tf.float32)[:, tf.newaxis], *gradients], axis=1)
        counts = context.all_gather(tf.shape(rows), axis=0)
        every = context.all_gather(packed, axis=0)
        distinct, places = tf.unique(tf.bitcast(every[:, 0], tf.int32))
        replicas = context.num_replicas_in_sync
        total = tf.zeros([tf.size(distinct), sum(widths)])
        # One replica after the other. A sum over all at once adds in any order on a GPU, and the copies would drift apart.
        for place, part in zip(
            tf.split(places, counts, num=replicas), tf.split(every[:, 1:], counts, num=replicas), strict=True
        ):
            total = tf.tensor_scatter_nd_add(total, place[:, tf.newaxis], part)
        return distinct, tf.split(total, widths, axis=1)


class ReplicatedStep(TrainStep):
    """A step of all replicas; called in each process with the whole batch, of which each replica takes its part."""

    def __init__(
        self,
        model: keras.Model,
        config: TrainingConfig,
        batch: Mapping[str, np.ndarray],
        split: EncodedSplit,
        replicas: Replicas,
    ) -> None:
        super().__init__(model, config, _weighted(batch), split, BetweenReplicas())
        self._replicas = replicas
        self._run = replicas.function(self._step, self.signature)

    def prepare(self, batch: Mapping[str, np.ndarray]) -> Any:
        return [TrainStep.prepare(self, part) for part in self._replicas.parts(_weighted(batch))]


class Replicas:
    """The `training.team.Team` of all replicas of a strategy."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self._here = here = list[int]()

        def note(context: tf.distribute.ValueContext) -> int:
            here.append(context.replica_id_in_sync_group)
            return 0

        strategy.experimental_distribute_values_from_function(note)
        self.count: int = strategy.num_replicas_in_sync
        self.chief = here[0] == 0
        self._sum = self.function(self._sum_step, {"values": tf.TensorSpec([None], tf.float64)})

    def function(
        self, replica: object, spec: dict[str, tf.TensorSpec]
    ) -> tf.types.experimental.GenericFunction:
        """`replica`, a function of one batch {name: tensor}, as a function of the batches of this process's replicas; its value
        is that of the first."""

        def together(parts: list[dict[str, tf.Tensor]]) -> tf.Tensor:
            part = self._strategy.experimental_distribute_values_from_function(
                lambda context: parts[self._here.index(context.replica_id_in_sync_group)]
            )
            return self._strategy.experimental_local_results(self._strategy.run(replica, args=(part,)))[0]

        return tf.function(together, input_signature=[[spec] * len(self._here)])

    def parts(self, batch: Mapping[str, np.ndarray]) -> list[Batch]:
        """The parts of a batch that the replicas of this process take: consecutive rows, the number differs by one at most."""
        rows = len(next(iter(batch.values())))
        edges = [(k * rows // self.count, (k + 1) * rows // self.count) for k in self._here]
        return [{key: array[start:end] for key, array in batch.items()} for start, end in edges]

    def variables(self) -> AbstractContextManager[object]:
        scope: AbstractContextManager[object] = self._strategy.scope()
        return scope

    def step(
        self,
        model: keras.Model,
        config: TrainingConfig,
        batch: Mapping[str, np.ndarray],
        split: EncodedSplit,
    ) -> TrainStep:
        return ReplicatedStep(model, config, batch, split, self)

    def predictor(self, model: keras.Model, split: EncodedSplit) -> Predict:
        spec = signature(split)

        def logits(batch: dict[str, tf.Tensor]) -> tf.Tensor:
            found = model(batch, training=False)
            return tf.distribute.get_replica_context().all_gather(found, axis=0)

        run = self.function(logits, spec)

        def predict(split: EncodedSplit) -> np.ndarray:
            blocks = split.batches(PREDICT_ROWS * self.count)
            return np.concatenate([run(self.parts({key: b[key] for key in spec})).numpy() for b in blocks])

        return predict

    @contextmanager
    def chief_first(self, folder: Path) -> Iterator[None]:
        """Raises TrainingError where `folder` is not the chief's."""
        if not self.chief:
            self._meet()
            if not folder.exists():
                raise TrainingError(
                    f"{folder}: not here, though the chief has written it; all workers need the same `out`, "
                    "on a disk that they share"
                )
        yield
        if self.chief:
            self._meet()

    def of_chief(self, values: Sequence[float]) -> list[float]:
        found: list[float] = self._summed(values if self.chief else np.zeros(len(values))).tolist()
        return found

    def any(self, said: bool) -> bool:
        return bool(self._summed([said])[0] > 0)

    @contextmanager
    def losses(self, out: Path) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            raise TrainingError(
                f"another worker stopped, hangs or can't be reached. Look at its log, then start all workers again with the "
                f"same command: training goes on from the checkpoint in {out}. TensorFlow says: {error.message.splitlines()[-1]}"
            ) from error

    def _meet(self) -> None:
        self._summed([0.0])

    def _summed(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        # One replica speaks for its process.
        given = np.asarray(values, np.float64)
        silent = np.zeros_like(given)
        parts = [{"values": given if k == 0 else silent} for k in range(len(self._here))]
        summed_up: np.ndarray = self._sum(parts).numpy()
        return summed_up

    def _sum_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return summed([tf.identity(batch["values"])])[0]


def _weighted(batch: Mapping[str, np.ndarray]) -> Batch:
    """With weights in any case: a replica without rows then has a loss of 0, where a mean over no rows has no value."""
    return {"weight": np.ones_like(batch["label"]), **batch}
