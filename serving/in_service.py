"""The bundle that serves, as a request sees it: the request takes one reference at its start, and keeps it through a reload. What is derived
from the contract is computed once per bundle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clickmill.contract import FeatureContract, Role
from serving import ranked_tensors, ranking, tensors

if TYPE_CHECKING:
    from clickmill.bundle import Priors

Raw = dict[str, np.ndarray]
Scores = dict[str, np.ndarray]

HEADER_DIGEST = "x-clickmill-bundle"
HEADER_VERSION = "x-clickmill-version"


class Scorer(Protocol):
    """What the endpoint needs of a bundle; `clickmill.bundle.Bundle` has it."""

    @property
    def contract(self) -> FeatureContract: ...
    @property
    def digest(self) -> str: ...
    @property
    def ranks(self) -> bool: ...
    def predict(self, raw: Raw) -> Scores: ...
    def rank(self, raw: Raw) -> Scores: ...


@dataclass(frozen=True)
class InService:
    """A bundle as requests see it. `version` is its number in the store, or the first 12 digits of its digest."""

    scorer: Scorer
    version: str
    priors: Priors | None = None
    """None for a bundle older than them, and for one that a test made."""

    @cached_property
    def number(self) -> int:
        """Version as a number, which is all TF Serving's protocol has: a bundle outside a store is 1, as in its `model/1`."""
        return 1 if self.version == self.scorer.digest[:12] else int(self.version)

    @cached_property
    def headers(self) -> dict[str, str]:
        return {HEADER_DIGEST: self.scorer.digest, HEADER_VERSION: self.version}

    @cached_property
    def form(self) -> tensors.TensorForm:
        return tensors.TensorForm.of(self.scorer.contract)

    @cached_property
    def impression_id(self) -> str | None:
        return self.scorer.contract.of_role(Role.IMPRESSION_ID)

    @cached_property
    def sides(self) -> ranked_tensors.Sides:
        return ranked_tensors.Sides.of(self.scorer.contract)

    @cached_property
    def ranking_form(self) -> ranking.RankingForm:
        return ranking.RankingForm.of(self.scorer.contract)
