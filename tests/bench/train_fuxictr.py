"""FuxiCTR 2.3.10 as a side of the training bench: DCN-v2 of its layers in its BaseModel, as its model zoo puts them together.

    default    Adam over everything, its train_step (which clips the gradient's norm)
    sparse     its layers with sparse gradients: torch's SparseAdam over the tables, Adam over the rest, nothing clipped

It gets what favours it: numerics as numbers (its own way is a vector each, which makes the tower 624 wide instead of 429) and batches cut
from arrays in memory.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
import train_data
import train_protocol
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything


class DCNv2(BaseModel):
    def __init__(self, feature_map: FeatureMap, root: str) -> None:
        super().__init__(
            feature_map, model_id="DCNv2", gpu=-1, verbose=0, model_root=root, metrics=["AUC", "logloss"]
        )
        width = train_data.FIELDS * train_data.DIM + train_data.NUMERICS
        self.embedding_layer = FeatureEmbedding(feature_map, train_data.DIM)
        self.crossnet = CrossNetV2(width, train_data.CROSSES)
        self.parallel_dnn = MLP_Block(input_dim=width, hidden_units=list(train_data.UNITS))
        self.fc = torch.nn.Linear(width + train_data.UNITS[-1], 1)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        vectors = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        x0 = torch.cat([vectors, inputs["numerics"]], dim=-1)
        both = torch.cat([self.crossnet(x0), self.parallel_dnn(x0)], dim=-1)
        return {"y_pred": self.output_activation(self.fc(both))}


class Fuxi:
    def __init__(self, rows: Mapping[str, np.ndarray], ids: int, variant: str) -> None:
        seed_everything(0)
        features = FeatureMap("bench", ".")
        features.labels = ["label"]
        features.features = OrderedDict(
            {
                f"c{i}": {"type": "categorical", "vocab_size": ids, "source": ""}
                for i in range(train_data.FIELDS)
            }
        )
        features.features["numerics"] = {"type": "meta"}
        features.num_fields = train_data.FIELDS
        self._model = DCNv2(features, tempfile.mkdtemp())
        self._model.compile("adam", "binary_crossentropy", 1e-3)
        self._model.reset_parameters()
        self._model._max_gradient_norm = 10.0  # the default of its `fit`
        self._step = self._model.train_step
        if variant == "sparse":
            self._step = self._sparsely
            tables = [m for m in self._model.modules() if isinstance(m, torch.nn.Embedding)]
            for table in tables:
                table.sparse = True
            owned = {id(table.weight) for table in tables}
            others = [p for p in self._model.parameters() if id(p) not in owned]
            self._optimizers = [
                torch.optim.SparseAdam([table.weight for table in tables], lr=1e-3),
                torch.optim.Adam(others, lr=1e-3),
            ]
        self._rows = {key: torch.from_numpy(value) for key, value in rows.items()}
        self._generator = torch.Generator().manual_seed(0)

    def train(self, steps: int) -> None:
        self._model.train()
        order = torch.randperm(len(self._rows["label"]), generator=self._generator)
        for part in order[: steps * train_data.BATCH].split(train_data.BATCH):
            self._step(self._batch(part)).item()

    def epoch(self) -> None:
        self._model.train()
        order = torch.randperm(len(self._rows["label"]), generator=self._generator)
        for part in order.split(train_data.BATCH):
            self._step(self._batch(part)).item()

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        self._model.eval()
        given = {key: torch.from_numpy(value) for key, value in rows.items()}
        parts = torch.arange(len(rows["label"])).split(16_384)
        with torch.no_grad():
            found = [self._model(self._batch(part, given))["y_pred"] for part in parts]
        return torch.cat(found)[:, 0].numpy()

    def _batch(
        self, part: torch.Tensor, rows: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        rows = rows or self._rows
        ids = rows["ids"][part].long()
        return {
            **{f"c{i}": ids[:, i] for i in range(train_data.FIELDS)},
            "numerics": rows["numerics"][part],
            "label": rows["label"][part],
        }

    def _sparsely(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss = self._model.compute_loss(self._model(batch), self._model.get_labels(batch))
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss


if __name__ == "__main__":
    train_protocol.main(Fuxi)
