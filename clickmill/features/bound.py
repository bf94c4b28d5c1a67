"""The largest feature space a contract can lead to, before any data is seen: for estimates of size."""

from __future__ import annotations

import pyarrow as pa

from clickmill.contract import Bucketize, ContractField, Dtype, FeatureContract, ListOf, Role, Vocabulary
from clickmill.features.learn import MOST_POSITIONS
from clickmill.features.space import FeatureSpace


def largest_space(contract: FeatureContract) -> FeatureSpace:
    """A space with as many rows as the contract allows: every vocabulary full, every quantile an edge of its own, every position seen.

    A vocabulary of a bool has at most 2 values, one of a field with `allowed` at most those (and the neutral value, where a missing
    one would take it); any other is taken to reach `max_size`. The values are nulls, which take no memory: for counting, not for
    encoding or saving.
    """
    vocabularies: dict[str, pa.Array] = {}
    edges: dict[str, tuple[float, ...]] = {}
    for name, f in contract.features.items():
        encoding = f.encoding.items if isinstance(f.encoding, ListOf) else f.encoding
        if isinstance(encoding, Vocabulary) and encoding.shares is None:
            vocabularies[name] = pa.nulls(min(encoding.max_size, _most_values(f, encoding.max_size)))
        elif isinstance(encoding, Bucketize):
            quantiles = range(1, encoding.quantiles or 1)
            edges[name] = encoding.boundaries or tuple(float(i) for i in quantiles)
    return FeatureSpace(contract, vocabularies, edges, positions=_most_positions(contract))


def _most_values(f: ContractField, otherwise: int) -> int:
    if f.dtype is Dtype.BOOL:
        return 2
    if f.allowed is None:
        return otherwise
    return len({*f.allowed} if f.required else {*f.allowed, f.fill})


def _most_positions(contract: FeatureContract) -> int:
    position = contract.of_role(Role.POSITION)
    if position is None:
        return 0
    bounds = contract.fields[position].range
    deepest = MOST_POSITIONS if bounds is None or bounds.max is None else int(bounds.max)
    return max(1, min(deepest, MOST_POSITIONS))
