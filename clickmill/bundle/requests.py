"""Rows as one request: the shared fields once, the candidates' fields row by row; and the proof that both forms answer alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clickmill.bundle.export import LOGIT
from clickmill.bundle.golden import SURE, Predict
from clickmill.contract import FeatureContract
from clickmill.errors import GoldenMismatch
from clickmill.features.raw import Raw
from clickmill.features.sides import by_rows, shared_fields

_USERS = 8
"""Golden rows that lend their user and context to all candidates: each costs a run of both forms."""


def one_request(rows: Mapping[str, np.ndarray], contract: FeatureContract, *, user: int = 0) -> Raw:
    """The candidates of all rows, asked for by the user and context of row `user`."""
    shared = shared_fields(contract)
    return {name: values[user : user + 1] if name in shared else values for name, values in rows.items()}


def check(
    folder: Path,
    rows: Mapping[str, np.ndarray],
    contract: FeatureContract,
    predict: Predict,
    rank: Predict,
    *,
    tolerance: float,
) -> None:
    """Ask for all rows as candidates of some of their users, in both forms. Raises GoldenMismatch when the answers differ by more
    than `tolerance` (of the logit, relative to max(1, |logit|))."""
    shared = shared_fields(contract)
    n = len(next(iter(rows.values())))
    for user in range(0, n, -(-n // _USERS)):
        request = one_request(rows, contract, user=user)
        expected = np.clip(predict(by_rows(request, shared, n))[LOGIT], -SURE, SURE)
        got = np.clip(rank(request)[LOGIT], -SURE, SURE)
        moved = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
        if not (moved <= tolerance).all():
            at = int(np.argmax(moved))
            raise GoldenMismatch(
                f"{folder}: asked as one request, candidate {at} of golden row {user}'s user gets logit {got[at]:.7g}; "
                f"asked by rows, {expected[at]:.7g}. Do not serve this graph here: compare the library versions with those in "
                "manifest.json."
            )
