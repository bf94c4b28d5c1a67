"""DeepCTR 0.9.4 as a side of the training bench: its DCN with matrix crosses, linear columns too, `fit` as its manual shows.

default    Adam and the library's own l2 (1e-5 on embeddings, linear weights and crosses)
sparse     Adagrad without l2: the gradients of its tables then stay sparse, and Keras' Adagrad writes those rows only
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tf_keras
import train_data
import train_protocol
from deepctr.feature_column import DenseFeat, SparseFeat
from deepctr.models import DCN


class DeepCTR:
    def __init__(self, rows: Mapping[str, np.ndarray], ids: int, variant: str) -> None:
        columns = [
            *(SparseFeat(f"c{i}", ids, embedding_dim=train_data.DIM) for i in range(train_data.FIELDS)),
            *(DenseFeat(f"n{i}", 1) for i in range(train_data.NUMERICS)),
        ]
        l2 = {} if variant == "default" else {"l2_reg_linear": 0, "l2_reg_embedding": 0}
        self._model = DCN(
            columns,
            columns,
            cross_num=train_data.CROSSES,
            cross_parameterization="matrix",
            dnn_hidden_units=train_data.UNITS,
            **l2,
        )
        # Keras' own default of 0.001 hardly moves Adagrad.
        optimizer = "adam" if variant == "default" else tf_keras.optimizers.Adagrad(0.05)
        self._model.compile(optimizer, "binary_crossentropy")
        self._inputs, self._label = self._columns(rows), rows["label"]
        self._at = 0

    def train(self, steps: int) -> None:
        size = steps * train_data.BATCH
        if self._at + size > len(self._label):
            self._at = 0
        part = slice(self._at, self._at + size)
        self._at += size
        self._fit({key: value[part] for key, value in self._inputs.items()}, self._label[part])

    def epoch(self) -> None:
        self._fit(self._inputs, self._label)

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._model.predict(self._columns(rows), batch_size=16_384, verbose=0)[:, 0]

    def _fit(self, inputs: dict[str, np.ndarray], label: np.ndarray) -> None:
        self._model.fit(inputs, label, batch_size=train_data.BATCH, epochs=1, verbose=0)

    @staticmethod
    def _columns(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {f"c{i}": rows["ids"][:, i].copy() for i in range(train_data.FIELDS)}
        return found | {f"n{i}": rows["numerics"][:, i].copy() for i in range(train_data.NUMERICS)}


if __name__ == "__main__":
    train_protocol.main(DeepCTR)
