"""Feature spaces made by hand, and encoded batches for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from clickmill.contract import loads
from clickmill.features import FeatureSpace, Moments

EVERYTHING = """
name: everything
fields:
  user: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 20}}
  age: {role: user, dtype: int64, encoding: {kind: standardize}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 5}}
  position: {role: position, dtype: int64}
  label: {role: label, dtype: int64}
"""
SLOTS_ONLY = """
name: slots
fields:
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  campaign: {role: ad, dtype: int64, encoding: {kind: compositional, buckets: 30}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 20}}
  label: {role: label, dtype: int64}
"""
NUMERICS_ONLY = """
name: numerics
fields:
  age: {role: user, dtype: int64, encoding: {kind: standardize}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  label: {role: label, dtype: int64}
"""
LIST_ONLY = """
name: lists
fields:
  words: {role: ad, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 40}, max_length: 5}}
  label: {role: label, dtype: int64}
"""


def _space(text: str) -> FeatureSpace:
    known = {
        "user": pa.array([f"u{i}" for i in range(12)]),
        "ad": pa.array(range(9), pa.int64()),
    }
    contract = loads(text)
    return FeatureSpace(
        contract,
        {name: values for name, values in known.items() if name in contract.fields},
        moments={n: Moments(0.0, 1.0) for n in ("age", "price") if n in contract.fields},
        positions=4 if "position" in contract.fields else 0,
    )


SPACES = {
    "everything": _space(EVERYTHING),
    "slots_only": _space(SLOTS_ONLY),
    "numerics_only": _space(NUMERICS_ONLY),
    "list_only": _space(LIST_ONLY),
}


@pytest.fixture(params=SPACES, scope="session")
def any_space(request: pytest.FixtureRequest) -> FeatureSpace:
    """Each mix of inputs a contract can have."""
    return SPACES[request.param]


@pytest.fixture(scope="session")
def space() -> FeatureSpace:
    """Every kind of input at once."""
    return SPACES["everything"]


@pytest.fixture(scope="session")
def encoded() -> Callable[..., dict[str, np.ndarray]]:
    """Random encoder outputs of a space; lists of every length from 0 to the most."""

    def make(space: FeatureSpace, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        batch: dict[str, np.ndarray] = {}
        if space.slots:
            drawn = [slot.offset + rng.integers(0, slot.rows, rows) for slot in space.slots]
            batch["slots"] = np.stack(drawn, axis=1).astype(np.int32)
        if space.numerics:
            batch["numerics"] = rng.standard_normal((rows, len(space.numerics)), dtype=np.float32)
        for slot in space.lists:
            items = slot.offset + rng.integers(0, slot.rows, (rows, slot.max_length))
            lengths = rng.integers(0, slot.max_length + 1, rows)
            there = np.arange(slot.max_length) < lengths[:, None]
            batch[f"list/{slot.name}"] = np.where(there, items, 0).astype(np.int32)
        if space.positions:
            batch["position"] = rng.integers(0, space.positions, rows).astype(np.int32)
        return batch

    return make
