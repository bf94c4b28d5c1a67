"""Clickmill as a side of the training bench: what `train` does per step, with its defaults.

default      rows by Adagrad, towers by Adam
adam         rows by lazy Adam
bfloat16     matrix products in bfloat16
xla          the towers compiled by XLA
rank-N       cross layers of rank N
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import tensorflow as tf
import train_data
import train_protocol

from clickmill.contract import ContractField, FeatureContract, Hash, Role, Standardize
from clickmill.features import FeatureSpace, Moments
from clickmill.models import build
from clickmill.training import TrainingConfig
from clickmill.training.ahead import ahead
from clickmill.training.encoded import EncodedSplit
from clickmill.training.step import TrainStep

_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-l2": {"l2": 0.0, "linear_l2": 0.0},
    "adam": {"embedding_optimizer": "adam"},
    "bfloat16": {"precision": "bfloat16"},
    "xla": {"xla": True},
}


def space(ids: int) -> FeatureSpace:
    """26 hashed fields of so many rows each, 13 numerics."""
    ad = {"role": Role.AD}
    fields = {
        f"c{i:02d}": ContractField(**ad, dtype="string", encoding=Hash(buckets=ids))
        for i in range(train_data.FIELDS)
    } | {
        f"n{i:02d}": ContractField(**ad, dtype="float32", encoding=Standardize())
        for i in range(train_data.NUMERICS)
    }
    moments = {f"n{i:02d}": Moments(0.0, 1.0) for i in range(train_data.NUMERICS)}
    return FeatureSpace(FeatureContract(name="bench", fields=fields), moments=moments)


class Clickmill:
    def __init__(self, rows: Mapping[str, np.ndarray], ids: int, variant: str) -> None:
        rank = int(variant.removeprefix("rank-")) if variant.startswith("rank-") else None
        settings = {} if rank else _SETTINGS[variant]
        self._config = TrainingConfig(batch_size=train_data.BATCH, **settings)
        self._first = 1 + np.arange(train_data.FIELDS, dtype=np.int32) * ids
        self._split = EncodedSplit({**self._inputs(rows), "label": rows["label"]})
        self._model = build(
            "dcn_v2",
            space(ids),
            {
                "dim": train_data.DIM,
                "cross_layers": train_data.CROSSES,
                "units": train_data.UNITS,
                "dropout": 0.0,
                "rank": rank,
            },
        )
        self._step = TrainStep(self._model, self._config, next(self._split.batches(1)), self._split)
        self._step.settle()
        self._endless = self._batches()
        self._ready = ahead(map(self._step.prepare, self._endless))

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self._step.run(next(self._ready))

    def epoch(self) -> None:
        with closing(ahead(map(self._step.prepare, self._pass(0)))) as batches:
            for batch in batches:
                self._step.run(batch)

    def input(self, steps: int) -> None:
        """The batches of so many steps, shuffled, cut and prepared, on one thread and with nobody to use them."""
        for batch, _ in zip(self._batches(), range(steps), strict=False):
            self._step.prepare(batch)

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        split = EncodedSplit({**self._inputs(rows), "label": rows["label"]})
        run = tf.function(lambda batch: self._model(batch, training=False), reduce_retracing=True)
        return np.concatenate(
            [
                run({key: tf.constant(batch[key]) for key in split.inputs}).numpy()
                for batch in split.batches(16_384)
            ]
        )

    def _inputs(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"slots": rows["ids"] + self._first, "numerics": rows["numerics"]}

    def _pass(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        memory = self._config.shuffle_memory_mib << 20
        return self._split.shuffled(train_data.BATCH, seed=0, epoch=epoch, memory=memory)

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        epoch = 1
        while True:
            yield from (batch for batch in self._pass(epoch) if len(batch["label"]) == train_data.BATCH)
            epoch += 1


if __name__ == "__main__":
    train_protocol.main(Clickmill)
