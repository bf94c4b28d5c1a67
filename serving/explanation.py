"""Explains a candidate's probability by ablation: how much each field adds, measured by leaving it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clickmill.contract import FeatureContract, Role
from serving.tensors import filled

Raw = dict[str, np.ndarray]


def ablation(
    raw: Raw,
    shared: frozenset[str],
    candidates: Sequence[int],
    contract: FeatureContract,
    predict: Callable[[Raw], Mapping[str, np.ndarray]],
) -> list[dict[str, float]]:
    """For each candidate, by field, the logit as it is minus the logit with that field at its default.

    raw: inputs of one ranking, one row of the `shared` fields and n of the others. One call of `predict` (by rows) with
    len(candidates) x (1 + fields) rows. The differences do not add up to the logit: fields act together, and what two of them say alike is
    lost by leaving out neither. The position is no reason and is left alone.
    """
    fields = [name for name, field in contract.inputs.items() if field.role is not Role.POSITION]
    variants = 1 + len(fields)
    at = np.asarray(candidates, np.int64)
    rows: Raw = {}
    for name, values in raw.items():
        own = np.repeat(values[[0] * len(at) if name in shared else at], variants, axis=0)
        if name in fields:
            left_out = np.arange(len(at)) * variants + 1 + fields.index(name)
            own[left_out] = filled(contract.inputs[name], 1)[0]
        rows[name] = own
    logit = np.asarray(predict(rows)["logit"], np.float64).reshape(len(at), variants)
    return [dict(zip(fields, (found[0] - found[1:]).tolist(), strict=True)) for found in logit]
