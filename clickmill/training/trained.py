"""A trained model with its encoder, on disk and in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clickmill.contract import FeatureContract
from clickmill.errors import UnreadableData
from clickmill.features import FeatureSpace, tensors
from clickmill.models import build
from clickmill.training import weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from clickmill.data import PreparedDataset
    from clickmill.features import Encoder

_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Raw rows to raw logits. Raw means: with the prior of the training rows, neither corrected nor calibrated.

    The folder: `space/` (the feature space), `weights/` (an array per variable), `row_state/` (what the optimizers keep per embedding
    row), `history.json`, and `model.json` = `meta`:

        model, model_config, training_config     what was trained, and how
        negatives_kept, positive_weight          what the prior correction needs
        contract_digest, space_digest, data_digest
        identity, started_from                   of this training, and of the one whose weights it began with (None: from nothing)
        history                                  per evaluation epoch, loss, ne, auc, rate, samples_per_second
        position_curve                           seen, relative_error and clicks, where it was read from propensities
        best_epoch                               `epoch` of the evaluation whose weights these are
    """

    space: FeatureSpace
    name: str
    keras_model: keras.Model
    encoder: Encoder
    meta: dict[str, Any]
    row_state: tuple[np.ndarray, ...] = ()
    """(rows, width) float32 of the optimizer of each table, with which a warm start goes on; read from disk where it is used."""

    @property
    def contract(self) -> FeatureContract:
        return self.space.contract

    @classmethod
    def load(cls, directory: Path) -> TrainedModel:
        """Read what `train` wrote. Raises UnreadableData when a file is missing or broken."""
        from clickmill.features import Encoder

        path = directory / "model.json"
        try:
            meta = json.loads(path.read_text())
            space = FeatureSpace.load(directory / "space")
            model = build(meta["model"], space, meta["model_config"], seed=meta["training_config"]["seed"])
            weights.load(model.variables, directory / "weights")
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableData(f"{path}: not a readable trained model ({error}); train it again") from error
        row_state = weights.read(directory / "row_state")
        return cls(space, meta["model"], model, Encoder(space), meta, row_state)

    def save(self, directory: Path) -> None:
        """Write the folder; `model.json` last, so that a folder with it is complete."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.json").unlink(missing_ok=True)
        self.space.save(directory / "space")
        weights.save(self.keras_model.variables, directory / "weights")
        weights.save(self.row_state, directory / "row_state")
        (directory / "history.json").write_text(json.dumps(self.meta["history"], indent=1))
        (directory / "model.json").write_text(json.dumps(self.meta, indent=1))

    def raw_logits(self, raw: tensors.Raw) -> np.ndarray:
        """Logits (n,) float32 of raw tensors over `contract.inputs`, encoder included, in blocks of bounded size."""
        rows = len(next(iter(raw.values())))
        blocks = [
            self._predict({name: array[start : start + _ROWS] for name, array in raw.items()}).numpy()
            for start in range(0, rows, _ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0, np.float32)

    def raw_logits_of(self, dataset: PreparedDataset, split: str) -> np.ndarray:
        """Logits (n,) float32 of a split's rows in their order; streams, so memory does not grow with the split's width."""
        return self.raw_logits_in(dataset.scan(split))

    def raw_logits_in(self, tables: Iterator[pa.Table]) -> np.ndarray:
        """Logits (n,) float32 of tables with the contract's input columns, one after the other."""
        blocks = [self.raw_logits(tensors.from_arrow(table, self.contract)) for table in tables]
        return np.concatenate(blocks) if blocks else np.empty(0, np.float32)

    @cached_property
    def _predict(self) -> tf.types.experimental.GenericFunction:
        import tensorflow as tf

        def predict(raw: dict[str, tf.Tensor]) -> tf.Tensor:
            return self.keras_model(self.encoder(raw), training=False)

        return tf.function(predict, input_signature=[tensors.signature(self.contract)])
