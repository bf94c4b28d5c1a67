"""How often each slot is seen, read from clicks and from the chances with which the ranking gave out the slots.

A click on an ad that stood in slot k by chance: P(slot k, click) = P(k) e(k) r with r the ad's relevance, whatever it is. So of the
slots where this very ad could have been clicked,

    P(slot k | click) = P(k) e(k) / sum_j P(j) e(j),

in which r is gone: the most likely curve e can be read from the clicks alone, and neither what the features fail to explain nor which
non-clicks were kept matters. It is the conditional likelihood of case-only designs (Breslow & Day 1980, chapter 7), here a multinomial
logit with offsets ln P(j), concave in ln e. The randomness that identifies it is that of the ranking, as in Joachims, Swaminathan &
Schnabel, WSDM 2017, and Agarwal et al., "Estimating Position Bias without Intrusive Interventions", WSDM 2019, who compare ads that
several rankings put elsewhere; a policy that knows its own chances need not wait for a second ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import FeatureContract, Role
from clickmill.errors import ContractError, TrainingError, UsageError

if TYPE_CHECKING:
    import keras

    from clickmill.data import PreparedDataset

Floats = npt.NDArray[np.float64]
_STEPS = 100
_SMALL = 1e-9


@dataclass(frozen=True)
class PositionCurve:
    """What each slot is worth beside the first."""

    seen: tuple[float, ...]
    """e(1), e(2), ...; the first is 1. An estimate may exceed 1 where chance has it so."""
    relative_error: tuple[float, ...]
    """Standard errors of ln e: 0.02 is 2 %. The first is 0."""
    clicks: int
    """Clicks it was read from."""


def from_clicks(slot: npt.NDArray[np.int64], chances: Floats) -> PositionCurve:
    """The most likely curve, by Newton's method.

    slot: (clicks,) 1-based slots in which clicked ads stood. chances: (clicks, slots), those of the same ad to stand in each slot of
    its request, in any unit: only ratios within a row count. Raises TrainingError where the clicks don't decide it: a row whose
    own slot had no chance, a slot without clicks, slots that no ad had a chance to share.
    """
    slots = chances.shape[1]
    own = chances[np.arange(len(slot)), slot - 1] if len(slot) else np.zeros(0)
    impossible = int((~(own > 0)).sum())
    if impossible:
        raise TrainingError(
            f"{impossible:,} of {len(slot):,} clicked rows stood in a slot for which the log gives no chance above 0; correct "
            "the propensities, or train with position_curve: learned"
        )
    clicks = np.bincount(slot - 1, minlength=slots)
    if not clicks.all():
        raise TrainingError(
            f"slot {int(np.argmin(clicks)) + 1} has no click among {len(slot):,}, so that how often it is seen cannot be read; "
            "prepare a longer log, or train with position_curve: learned"
        )
    log_curve = np.zeros(slots)
    for _ in range(_STEPS):
        share = chances * np.exp(log_curve)
        share /= share.sum(axis=1, keepdims=True)
        expected = share.sum(axis=0)
        information = (np.diag(expected) - share.T @ share)[1:, 1:]
        if slots > 1 and np.linalg.cond(information) > 1 / _SMALL:
            raise TrainingError(
                "no ad had a chance to stand in some slots and also in the others, so that chance does not tell the slots apart: the "
                "ranking has no noise there. Randomise a part of the traffic, or train with position_curve: learned"
            )
        step = np.linalg.solve(information, (clicks - expected)[1:])
        # a bounded step: far from the optimum a concave likelihood can still throw Newton's method off
        log_curve[1:] += np.clip(step, -2, 2)
        if np.abs(step).max(initial=0) < _SMALL:
            break
    error = np.sqrt(np.diag(np.linalg.inv(information))) if slots > 1 else np.zeros(0)
    return PositionCurve(tuple(np.exp(log_curve).tolist()), (0.0, *error.tolist()), len(slot))


def hold(model: keras.Model, dataset: PreparedDataset) -> PositionCurve:
    """Set the model's examination layer to the curve of the train split, and learn it no further; returns the curve.

    Raises UsageError for a model without that layer, ContractError and TrainingError as `of_train_split` does.
    """
    from clickmill.models.logit import EXAMINATION

    layer = next((layer for layer in model.layers if layer.name == EXAMINATION), None)
    if layer is None:
        raise UsageError(
            "training setting position_curve: propensities fixes the curve of the examination product; train a model with "
            "position: examination on a contract with a position, or leave position_curve: learned"
        )
    curve = of_train_split(dataset, layer.positions)
    layer.hold(curve.seen)
    return curve


def of_train_split(dataset: PreparedDataset, positions: int) -> PositionCurve:
    """The curve of slots 1 to `positions` from the train split's clicks; deeper slots count as the last.

    Raises ContractError when the contract has no position or propensity, TrainingError as `from_clicks` does.
    """
    contract = dataset.contract
    position, propensity = _field(contract, Role.POSITION), _field(contract, Role.PROPENSITY)
    slots, chances = [], []
    for table in dataset.scan("train", columns=[position, propensity, dataset.label]):
        clicked = table.filter(pc.equal(table.column(dataset.label).cast(pa.int64()), 1))
        slot = pc.fill_null(clicked.column(position), contract.fields[position].fill).to_numpy()
        slots.append(np.clip(slot, 1, positions))
        chances.append(_matrix(clicked.column(propensity), positions))
    return from_clicks(np.concatenate(slots), np.concatenate(chances))


def _matrix(column: pa.ChunkedArray, positions: int) -> Floats:
    """Lists of chances as rows; those of slots beyond the last are added to the last, those not given are 0."""
    array = column.combine_chunks()
    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    values = pc.fill_null(array.flatten().cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(array)), counts)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    matrix = np.zeros((len(array), positions))
    np.add.at(matrix, (row, np.minimum(slot, positions - 1)), np.where(values > 0, values, 0.0))
    return matrix


def _field(contract: FeatureContract, role: Role) -> str:
    name = contract.of_role(role)
    if name is None:
        raise ContractError(
            f"contract `{contract.name}` has no field of role {role}, which position_curve: propensities reads; add one, or train "
            "with position_curve: learned"
        )
    return name
