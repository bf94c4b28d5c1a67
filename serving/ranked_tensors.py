"""Named tensors of one request: shared fields with one row, those of the candidates with n. The SavedModel's signature `ranking`, by
every protocol that has tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from clickmill.contract import FeatureContract, Role
from clickmill.errors import RequestError
from clickmill.features.sides import shared_fields
from serving.limits import Limits
from serving.named_tensor import NamedTensor
from serving.refusals import UnknownSignature
from serving.tensors import TensorForm, filled, to_raw

ROWS, RANKING = "serving_default", "ranking"
"""Signatures a caller of Predict or of V2 may name; `clickmill.bundle.export` writes them, and imports TensorFlow."""


@dataclass(frozen=True)
class Sides:
    """What a contract asks of either side, looked up once per bundle."""

    shared: TensorForm
    candidate: TensorForm

    @classmethod
    def of(cls, contract: FeatureContract) -> Sides:
        """The sides of a contract. The position may be left out of a ranking even where rows require one."""
        shared, inputs = shared_fields(contract), contract.inputs
        slot = contract.of_role(Role.POSITION)
        if slot in inputs:
            inputs = {**inputs, slot: inputs[slot].model_copy(update={"required": False})}
        others = frozenset(contract.columns) - inputs.keys()
        return cls(
            TensorForm({n: f for n, f in inputs.items() if n in shared}, frozenset()),
            TensorForm({n: f for n, f in inputs.items() if n not in shared}, others),
        )


def is_ranking(signature: object) -> bool:
    """Whether a request by this signature is one of shared fields and candidates. Raises UnknownSignature for one there is not."""
    if signature in (None, "", ROWS):
        return False
    if signature == RANKING:
        return True
    raise UnknownSignature(
        f"there is no signature `{signature!s:.100}` here; there are `{ROWS}` and `{RANKING}`"
    )


def to_request(
    tensors: Sequence[NamedTensor],
    sides: Sides,
    limits: Limits,
    *,
    datatype_names: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], int]:
    """Arrays for `Bundle.rank`, and the number n of candidates. Raises as `tensors.to_raw`, and RequestError for a shared field of
    another number of rows than one."""
    inputs = sides.shared.inputs
    shared = [tensor for tensor in tensors if tensor.name in inputs]
    for tensor in shared:
        if tensor.shape[:1] != (1,):
            raise RequestError(
                f"field `{tensor.name}` is the same for all candidates: its shape must begin with 1; got {list(tensor.shape)}",
                field=tensor.name,
            )
    raw, rows = to_raw(
        [tensor for tensor in tensors if tensor.name not in inputs],
        sides.candidate,
        limits,
        datatype_names=datatype_names,
    )
    if shared:
        return to_raw(shared, sides.shared, limits, datatype_names=datatype_names)[0] | raw, rows
    return _defaults(sides.shared) | raw, rows


def _defaults(form: TensorForm) -> dict[str, np.ndarray]:
    for name, field in form.inputs.items():
        if field.required:
            raise RequestError(f"field `{name}`: is required and has no default; send it once", field=name)
    return {name: filled(field, 1) for name, field in form.inputs.items()}
