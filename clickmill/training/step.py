"""One training step as a compiled graph: forward, backward, embedding rows by the optimizer of the configuration, the rest by Adam."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import keras
import numpy as np
import tensorflow as tf

from clickmill.models.embedding import FusedEmbedding
from clickmill.training.config import TrainingConfig
from clickmill.training.distinct import PLAN, row_keys, with_distinct_rows
from clickmill.training.lookup import looked_up
from clickmill.training.loss import weighted_bce
from clickmill.training.sparse_adagrad import SparseAdagrad
from clickmill.training.table_adam import TableAdam


class TrainStep:
    """Trains `model` on batches {input: (b, ...), "label": (b,), ["weight": (b,)]}; holds the optimizers' state.

    `rate` (float32 scalar, 1 at first) multiplies the learning rate of every optimizer; whoever runs the steps may assign it.
    """

    def __init__(self, model: keras.Model, config: TrainingConfig, batch: Mapping[str, np.ndarray]) -> None:
        self.model = model
        self.rate = tf.Variable(1.0, trainable=False, name="rate")
        self._positive_weight = config.positive_weight
        self._tables = [layer for layer in model.layers if isinstance(layer, FusedEmbedding)]
        optimizer = SparseAdagrad if config.embedding_optimizer == "adagrad" else TableAdam
        self._embeddings: list[SparseAdagrad | TableAdam] = [
            optimizer(
                layer.table.value,
                config.embedding_learning_rate,
                config.linear_l2 if layer.width == 1 else config.l2,
                self.rate,
            )
            for layer in self._tables
        ]
        owned = {id(layer.table) for layer in self._tables}
        self._dense = [v for v in model.trainable_variables if id(v) not in owned]
        self._adam = keras.optimizers.Adam(_Scaled(config.learning_rate, self.rate))
        self._adam.build(self._dense)
        self.signature = {
            name: tf.TensorSpec([None, *array.shape[1:]], tf.as_dtype(array.dtype))
            for name, array in self.prepare(batch).items()
        }
        self._run = tf.function(self._step, input_signature=[self.signature])

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch as `run` takes it. Reads nothing of the model: may be called on another thread, ahead of the steps before."""
        return with_distinct_rows(batch)

    def run(self, prepared: dict[str, np.ndarray]) -> float:
        """One step on a batch from `prepare`; its loss before the step."""
        return float(self._run(prepared))

    def __call__(self, batch: Mapping[str, np.ndarray]) -> float:
        """`prepare` and `run`."""
        return self.run(self.prepare(batch))

    def _step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        inputs = {key: value for key, value in batch.items() if key not in ("label", "weight", *PLAN)}
        rows, order, segments = (batch[key] for key in PLAN)
        named = [inputs[key] for key in row_keys(inputs)]
        dense = [v.value for v in self._dense]
        # Each row of the batch is fetched from its table once, and is what the loss is differentiated by.
        excerpts = [tf.gather(layer.table.value, rows) for layer in self._tables]
        with tf.GradientTape(watch_accessed_variables=False) as tape, ExitStack() as reading:
            tape.watch([dense, excerpts])
            for layer, excerpt in zip(self._tables, excerpts, strict=True):
                vectors = looked_up(excerpt, named, order, segments)
                reading.enter_context(layer.reading(excerpt, list(zip(named, vectors, strict=True))))
            logit = self.model(inputs, training=True)
            loss = weighted_bce(batch["label"], logit, batch.get("weight"), self._positive_weight)
            # What layers add while training (DIEN's auxiliary loss) is learned from, but not told as the loss.
            objective = tf.add_n([loss, *self.model.losses])
        gradients, sparse = tape.gradient(objective, (dense, excerpts))
        self._adam.apply(gradients, self._dense)
        examples = tf.cast(tf.shape(logit)[0], tf.float32)
        for table, excerpt, gradient in zip(self._embeddings, excerpts, sparse, strict=True):
            table.apply(rows, excerpt, tf.convert_to_tensor(gradient), examples)
        return loss

    @property
    def variables(self) -> list[tf.Variable]:
        """Everything a step reads and changes, in a fixed order: weights, dropout's generators, optimizers' state, rate."""
        kept = [*self.model.variables, *self._adam.variables]
        return [v.value for v in kept] + [v for o in self._embeddings for v in o.state] + [self.rate]


class _Scaled(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate times `rate`, as an optimizer of Keras reads it at each step."""

    def __init__(self, learning_rate: float, rate: tf.Variable) -> None:
        super().__init__()
        self._learning_rate, self._rate = learning_rate, rate

    def __call__(self, step: object) -> tf.Tensor:
        return self._learning_rate * self._rate
