"""The features of a ranking: what its request leaves out of the user and the candidates is looked up, in one read and within its time.

What the caller sends wins, candidate by candidate; what neither has is the contract's default, as ever.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clickmill.contract import ContractField, FeatureContract
from serving.features.lookup import Found, Id

Raw = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Gaps:
    """What a request of n candidates leaves to the store."""

    ids: dict[str, list[Id]]
    """By id field, the ids to ask for: one where all candidates share it."""
    at: dict[str, np.ndarray | None]
    """By id field, which candidates (m,) its ids belong to; None where all share it."""
    fields: dict[str, np.ndarray | None]
    """By field, which candidates (n,) lack it; None for a field that they share."""

    def __bool__(self) -> bool:
        return bool(self.ids)


class RankedFields:
    """What a contract keeps in the store, seen from a ranking; made once per bundle."""

    def __init__(self, contract: FeatureContract, shared: Container[str]) -> None:
        """shared: the fields that all candidates of a request have in common."""
        self._entities = contract.entities
        self._shared = shared

    def gaps(self, given: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> Gaps:
        """What is left out of the shared fields and of the candidates, as they were sent; null is left out too."""
        found = Gaps({}, {}, {})
        for entity, fields in self._entities.items():
            missing = self._missing(fields, given, candidates)
            if not missing:
                continue
            found.fields.update(missing)
            if entity in self._shared:
                found.ids[entity], found.at[entity] = [given.get(entity)], None
                continue
            # a field that all share can't be kept under an id that differs, so each mask is of candidates
            at = np.flatnonzero(np.logical_or.reduce([m for m in missing.values() if m is not None]))
            found.ids[entity] = [candidates[k].get(entity) for k in at.tolist()]
            found.at[entity] = at
        return found

    def filled(self, raw: Raw, gaps: Gaps, found: Found) -> Raw:
        """`raw` of the request with what was found in its gaps; the arrays of those fields are new."""
        whole = dict(raw)
        for entity, at in gaps.at.items():
            for name in self._entities[entity]:
                if name not in gaps.fields:
                    continue
                lacking, values = gaps.fields[name], found.raw[name]
                if lacking is None:
                    whole[name] = values
                    continue
                column = np.array(raw[name])
                if at is None:
                    column[lacking] = values[0]
                else:
                    column[at[lacking[at]]] = values[lacking[at]]
                whole[name] = column
        return whole

    def _missing(
        self,
        fields: Mapping[str, ContractField],
        given: Mapping[str, Any],
        candidates: Sequence[Mapping[str, Any]],
    ) -> dict[str, np.ndarray | None]:
        missing: dict[str, np.ndarray | None] = {}
        for name in fields:
            if name in self._shared:
                if given.get(name) is None:
                    missing[name] = None
                continue
            lacking = np.fromiter((c.get(name) is None for c in candidates), bool, len(candidates))
            if lacking.any():
                missing[name] = lacking
        return missing
