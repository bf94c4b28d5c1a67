"""What is the same for all candidates of a request, and what each candidate brings along.

A request asks for many ads on behalf of one user in one context. Its shared fields are given once:

    shared       user, context, sequence and event_time fields, and what is derived from these alone      (1,) or (1, length)
    candidate    ad, cross and position fields, and whatever is derived from one of them                  (n,) or (n, length)
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clickmill.contract import SHARED_ROLES, ContractField, Cross, FeatureContract, Hour, Weekday
from clickmill.features.space import FeatureSpace
from clickmill.features.tensors import signature

if TYPE_CHECKING:
    import tensorflow as tf


class Sides(NamedTuple):
    """Places of the fields of `space.slots` or `space.numerics`, by side, each ascending."""

    shared: tuple[int, ...]
    candidate: tuple[int, ...]


def shared_fields(contract: FeatureContract) -> frozenset[str]:
    """Names of the fields, derived ones included, that all candidates of a request share."""
    return frozenset(name for name, f in contract.fields.items() if _is_shared(contract, f))


def slot_sides(space: FeatureSpace) -> Sides:
    """Which slots are shared."""
    return _split(space, [slot.name for slot in space.slots])


def numeric_sides(space: FeatureSpace) -> Sides:
    """Which numerics are shared."""
    return _split(space, list(space.numerics))


def by_rows(request: Mapping[str, np.ndarray], shared: Container[str], rows: int) -> dict[str, np.ndarray]:
    """A request as its rows: the one row of each shared field repeated for all candidates, the others as they are."""
    return {
        name: np.repeat(values, rows, axis=0) if name in shared else values
        for name, values in request.items()
    }


def request_signature(contract: FeatureContract) -> dict[str, tf.TensorSpec]:
    """As `tensors.signature`, with one row for shared fields: (1,) and (1, None); (None,) and (None, None) for the others."""
    import tensorflow as tf

    shared = shared_fields(contract)
    return {
        name: tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name) if name in shared else spec
        for name, spec in signature(contract).items()
    }


def _is_shared(contract: FeatureContract, f: ContractField) -> bool:
    if isinstance(f.encoding, Cross):
        return all(contract.fields[parent].role in SHARED_ROLES for parent in f.encoding.of)
    if isinstance(f.encoding, Hour | Weekday):
        return contract.fields[f.encoding.of].role in SHARED_ROLES
    return f.role in SHARED_ROLES


def _split(space: FeatureSpace, names: list[str]) -> Sides:
    shared = shared_fields(space.contract)
    places = range(len(names))
    return Sides(
        tuple(i for i in places if names[i] in shared), tuple(i for i in places if names[i] not in shared)
    )
