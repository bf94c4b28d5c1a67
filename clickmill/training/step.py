"""One training step as a compiled graph: forward, backward, the rows of the batch by an optimizer for rows, the rest by Adam."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from clickmill.models.embedding import FusedEmbedding
from clickmill.models.precision import products_in
from clickmill.training.config import TrainingConfig
from clickmill.training.distinct import PLAN, row_keys, shares, times_named, with_distinct_rows
from clickmill.training.encoded import ROW_KEYS, EncodedSplit
from clickmill.training.huge_pages import gather_pages
from clickmill.training.loss import ClickLoss
from clickmill.training.row_optimizers import row_optimizers
from clickmill.training.rows import by_row


class Exchange(Protocol):
    """What a step on a part of the batch asks of those who have the other parts; see `training.replicas`."""

    def summed(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Each value's sum over all parts; shapes are equal everywhere."""
        ...

    def gathered(self, rows: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The different ones among all parts' `rows` (n,), and for each table the sum (m, width) of their `gradients` (n, width)."""
        ...


class TrainStep:
    """Trains `model` on batches {input: (b, ...), "label": (b,), ["weight": (b,), "known": (b,)]}; holds the optimizers' state.

    `rate` (float32 scalar, 1 at first) multiplies the learning rate of every optimizer; whoever runs the steps may assign it.
    `loss` says how far labels are believed; it may be replaced before the first step.

    split: what an epoch goes over, of which regularisation is told by the row; None: each batch by itself.
    exchange: with whom the batch is shared; None: the batch is all here.
    """

    def __init__(
        self,
        model: keras.Model,
        config: TrainingConfig,
        batch: Mapping[str, np.ndarray],
        split: EncodedSplit | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self.model = model
        self._exchange = exchange
        self.rate = tf.Variable(1.0, trainable=False, name="rate")
        self.loss = ClickLoss(config.positive_weight)
        self._precision = config.precision
        # Only this part: how many rows are different changes from batch to batch, and XLA compiles each shape anew.
        self._differentiate = (
            tf.function(self._forward_backward, jit_compile=True) if config.xla else self._forward_backward
        )
        self._tables = [layer for layer in model.layers if isinstance(layer, FusedEmbedding)]
        self._named = (
            times_named(split.arrays, self._tables[0].rows) if split is not None and self._tables else None
        )
        epoch = len(next(iter(batch.values()))) if split is None else split.rows
        self._row_optimizers = row_optimizers(self._tables, config, self.rate, epoch)
        owned = {id(layer.table) for layer in self._tables}
        self._dense = [v for v in model.trainable_variables if id(v) not in owned]
        self._adam = keras.optimizers.Adam(_Scaled(config.learning_rate, self.rate))
        self._adam.build(self._dense)
        self.signature = {
            name: tf.TensorSpec([None, *array.shape[1:]], tf.as_dtype(array.dtype))
            for name, array in self._planned(batch).items()
        }
        self._run = tf.function(self._step, input_signature=[self.signature])

    def settle(self) -> None:
        """Once, between the last assignment to a variable and the first step: puts large tables where their rows are found sooner."""
        if self._exchange is None:
            state = [variable for optimizer in self._row_optimizers for variable in optimizer.state]
            gather_pages([layer.table.value for layer in self._tables] + state)

    def prepare(self, batch: Mapping[str, np.ndarray]) -> Any:
        """The batch as `run` takes it. Reads nothing of the model: may be called on another thread, ahead of the steps before."""
        return {key: tf.convert_to_tensor(value) for key, value in self._planned(batch).items()}

    def _planned(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        planned = with_distinct_rows(batch)
        return planned | {"shares": shares(planned, self._named)}

    def run(self, prepared: Any) -> float:
        """One step on a batch from `prepare`; its loss before the step."""
        return float(self._run(prepared))

    def __call__(self, batch: Mapping[str, np.ndarray]) -> float:
        """`prepare` and `run`."""
        return self.run(self.prepare(batch))

    def _step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        inputs = {key: value for key, value in batch.items() if key not in (*ROW_KEYS, *PLAN, "shares")}
        rows, order, segments = (batch[key] for key in PLAN)
        shares = batch["shares"]
        # Each row of the batch is fetched from its table once; the vectors at its places are what the loss is differentiated by.
        excerpts = [tf.gather(layer.table.value, rows) for layer in self._tables]
        vectors = [[tf.gather(excerpt, inputs[key]) for key in row_keys(inputs)] for excerpt in excerpts]
        label, weight = batch["label"], batch.get("weight")
        share, examples = None, tf.cast(tf.size(label), tf.float32)
        if self._exchange is not None:
            share, examples = self._share(examples, weight)
        loss, gradients, upstream = self._differentiate(
            inputs, vectors, label, weight, batch.get("known"), share
        )
        of_rows = [by_row(places, order, segments) for places in upstream]
        if self._exchange is not None:
            (loss,) = self._exchange.summed([loss])
        if self._exchange is not None and self._tables:
            counted = tf.stack([shares, tf.ones_like(shares)], axis=1)
            rows, (*of_rows, counted) = self._exchange.gathered(rows, [*of_rows, counted])
            shares = counted[:, 0] / counted[:, 1]  # each part that names a row has told its share
            excerpts = [tf.gather(layer.table.value, rows) for layer in self._tables]
        # Of replicas' dense gradients Keras' optimizer takes the sum itself.
        self._adam.apply(gradients, self._dense)
        for optimizer, excerpt, gradient in zip(self._row_optimizers, excerpts, of_rows, strict=True):
            optimizer.apply(rows, excerpt, gradient, examples, shares)
        return loss

    def _forward_backward(
        self,
        inputs: dict[str, tf.Tensor],
        vectors: list[list[tf.Tensor]],
        label: tf.Tensor,
        weight: tf.Tensor | None,
        known: tf.Tensor | None,
        share: tf.Tensor | None,
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[list[tf.Tensor]]]:
        """The loss, and the gradients of dense weights and of `vectors` (per table those of each of `row_keys`); of a part of the batch
        its `share` in them."""
        dense = [v.value for v in self._dense]
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            ExitStack() as answering,
            products_in(self._precision),
        ):
            tape.watch([dense, vectors])
            for layer, read in zip(self._tables, vectors, strict=True):
                named = [inputs[key] for key in row_keys(inputs)]
                answering.enter_context(layer.answering(list(zip(named, read, strict=True))))
            logit = self.model(inputs, training=True)
            loss = self.loss(label, logit, weight, known)
            # What layers add while training (DIEN's auxiliary loss) is learned from, but not told as the loss.
            objective = tf.add_n([loss, *self.model.losses])
            if share is not None:
                loss, objective = share * loss, share * objective
        gradients, upstream = tape.gradient(objective, (dense, vectors))
        # A model may leave a list of its contract aside: nothing comes back for it.
        upstream = [
            [tf.zeros_like(there) if back is None else back for there, back in zip(*pair, strict=True)]
            for pair in zip(vectors, upstream, strict=True)
        ]
        return loss, gradients, upstream

    def _share(self, examples: tf.Tensor, weight: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """What a mean over this part of the batch counts in the mean over all of it, and how many rows all of it has."""
        assert self._exchange is not None
        part = examples if weight is None else tf.reduce_sum(weight)
        total, every = self._exchange.summed([part, examples])
        return tf.math.divide_no_nan(part, total), every

    @property
    def row_state(self) -> list[tf.Variable]:
        """What the optimizers keep per embedding row, (rows, ...) each, in a fixed order: how sure they are of each row. Nothing of an
        optimizer that also keeps a count of its own, which the rows alone would not bring along."""
        return [
            variable
            for table, optimizer in zip(self._tables, self._row_optimizers, strict=True)
            if all(v.shape.rank and v.shape[0] == table.rows for v in optimizer.state)
            for variable in optimizer.state
        ]

    @property
    def variables(self) -> list[tf.Variable]:
        """Everything a step reads and changes, in a fixed order: weights, dropout's generators, optimizers' state, rate."""
        kept = [*self.model.variables, *self._adam.variables]
        state = [variable for optimizer in self._row_optimizers for variable in optimizer.state]
        return [v.value for v in kept] + state + [self.rate]


class _Scaled(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate times `rate`, as an optimizer of Keras reads it at each step."""

    def __init__(self, learning_rate: float, rate: tf.Variable) -> None:
        super().__init__()
        self._learning_rate, self._rate = learning_rate, rate

    def __call__(self, step: object) -> tf.Tensor:
        return self._learning_rate * self._rate
