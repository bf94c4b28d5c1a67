"""The roofline in torch: the dense layers of DCN-v2 alone on embeddings that are ready, down to their gradient, and Adam."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
import train_data
import train_protocol
from torch.nn import functional


class Tower(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.crosses = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(train_data.CROSSES))
        units = (width, *train_data.UNITS)
        self.deep = torch.nn.ModuleList(torch.nn.Linear(i, o) for i, o in pairwise(units))
        self.logit = torch.nn.Linear(width + train_data.UNITS[-1], 1)

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        x = h = x0
        for cross in self.crosses:
            x = x0 * cross(x) + x
        for layer in self.deep:
            h = functional.relu(layer(h))
        return self.logit(torch.cat([x, h], dim=1))


class TorchTower:
    def __init__(self, rows: Mapping[str, np.ndarray], ids: int, variant: str) -> None:
        width = train_data.FIELDS * train_data.DIM + train_data.NUMERICS
        torch.manual_seed(0)
        self._model = Tower(width)
        self._adam = torch.optim.Adam(self._model.parameters(), lr=1e-3, fused=True)
        self._features = torch.randn(train_data.BATCH, width, requires_grad=True)
        self._label = torch.from_numpy(rows["label"][: train_data.BATCH, np.newaxis])

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self._adam.zero_grad()
            self._features.grad = None
            loss = functional.binary_cross_entropy_with_logits(self._model(self._features), self._label)
            loss.backward()
            self._adam.step()
            loss.item()

    def epoch(self) -> None:
        raise NotImplementedError("a roofline learns nothing")

    def score(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError("a roofline learns nothing")


if __name__ == "__main__":
    train_protocol.main(TorchTower)
