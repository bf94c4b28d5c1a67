"""A feature space that grows: what the champion knows keeps its meaning, what the new train split taught besides is added.

    vocabularies    the champion's values keep their order, values that now reach `min_count` follow; values no longer seen keep
                    their rows while `max_size` leaves room, for they may come back
    edges, moments  the champion's: its rows and dense weights were learned in these intervals and units, and a shift of the mean by a
                    day's drift would move every input of the model at once
    positions       the deeper of the two

Values that have left the market are not forgotten, and units grow old: train from scratch now and then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import FeatureContract, ListOf, Role, Vocabulary
from clickmill.errors import ContractError
from clickmill.features.space import FeatureSpace, owned_stretches

_FREE = frozenset({"min_count", "max_size", "max_length", "unseen"})
"""Settings of an encoding that may change: they say which values get rows and how many items are read, not what a row means. (Rows of
`unseen` mean something else when it changes, and all begin with the first the champion had.)"""


class Origins(NamedTuple):
    """Where each row of a grown table comes from."""

    rows: npt.NDArray[np.int64]
    """(table_rows,) row of the champion's table; -1 for rows of fields that the champion did not have."""
    new: npt.NDArray[np.bool_]
    """(table_rows,) true for values the champion had no row for: `rows` is then where it looked them up until now."""


def grown(learned: FeatureSpace, champion: FeatureSpace) -> FeatureSpace:
    """The champion's space with what `learned`, fitted on the new dataset, knows besides; its contract is that of `learned`.

    Raises ContractError, naming field and rule, when a field has another meaning now than when the champion was trained.
    """
    refuse_other_meaning(learned.contract, champion.contract)
    _refuse_other_position(learned, champion)
    return FeatureSpace(
        learned.contract,
        {
            name: _vocabulary(values, champion.vocabularies.get(name), learned.contract, name)
            for name, values in learned.vocabularies.items()
        },
        {name: champion.edges.get(name, edges) for name, edges in learned.edges.items()},
        {name: champion.moments.get(name, moments) for name, moments in learned.moments.items()},
        max(learned.positions, champion.positions),
    )


def origins(space: FeatureSpace, champion: FeatureSpace) -> Origins:
    """For each row of `space`, which `grown` made from `champion`, the row of the champion's table it continues.

    A value that is new continues the row of the unknown, where the champion found it until now: a table filled by these origins
    answers as the champion's did, for every row, until its first step. (With `unseen.like` the champion found it by its attributes,
    which no space knows; it then continues the first row.)
    """
    rows = np.full(space.table_rows, -1, np.int64)
    new = np.ones(space.table_rows, np.bool_)
    rows[0], new[0] = 0, False
    old_stretches = owned_stretches(champion)
    for name, (start, count) in owned_stretches(space).items():
        if name not in old_stretches:
            continue
        old_start, _ = old_stretches[name]
        local, known = _local_origins(name, count, space, champion)
        rows[start : start + count] = old_start + local
        new[start : start + count] = ~known
    return Origins(rows, new)


def refuse_other_meaning(now: FeatureContract, then: FeatureContract) -> None:
    """Raises ContractError for the first field that a model trained by contract `then` would misread in rows of contract `now`."""
    for name, before in then.features.items():
        after = now.features.get(name)
        if after is None:
            raise _refusal(name, "is no feature any more; the champion's weights are spread over its inputs")
        if after.dtype is not before.dtype:
            raise _refusal(f"{name}.dtype", f"is {after.dtype}, and was {before.dtype} for the champion")
        for path, old, new in _differences(_meaning(before.encoding), _meaning(after.encoding)):
            said = f"is {new!r}, and was {old!r} for the champion: its rows would stand for other values"
            raise _refusal(f"{name}.encoding.{path}", said)
    kept = [name for name in now.features if name in then.features]
    for place, (here, there) in enumerate(zip(kept, then.features, strict=True)):
        if here != there:
            raise _refusal(
                here, f"stands where the champion had `{there}` (feature {place + 1}); keep the order"
            )


def _refuse_other_position(now: FeatureSpace, then: FeatureSpace) -> None:
    ours, theirs = (space.contract.of_role(Role.POSITION) for space in (now, then))
    if ours is None and theirs is None:
        return
    if theirs is None:
        raise _refusal(f"{ours}.role", "is position, and the champion was trained without one")
    if ours is None:
        raise _refusal(f"{theirs}.role", "was position for the champion, and the contract has none now")
    if now.averages_position != then.averages_position:
        raise _refusal(
            f"{ours}.at_inference", "is not the champion's: its effect of the position has no such row"
        )


def _refusal(path: str, said: str) -> ContractError:
    return ContractError(
        f"fields.{path}: {said}. Undo the change in the contract, or train from scratch (no warm start)"
    )


def _meaning(encoding: Any) -> dict[str, Any]:
    meaning = {} if encoding is None else encoding.model_dump(mode="json", exclude=set(_FREE))
    if isinstance(meaning.get("items"), dict):
        meaning["items"] = {key: value for key, value in meaning["items"].items() if key not in _FREE}
    return meaning


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = sorted({*before, *after}, key=lambda key: (key != "kind", key))  # another kind explains all else
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def _vocabulary(
    learned: pa.Array, champion: pa.Array | None, contract: FeatureContract, name: str
) -> pa.Array:
    if champion is None:
        return learned
    encoding = contract.fields[name].encoding
    encoding = encoding.items if isinstance(encoding, ListOf) else encoding
    assert isinstance(encoding, Vocabulary)
    seen = pc.is_in(champion, learned).to_numpy(zero_copy_only=False)
    # The champion's last values are its rarest or youngest: of those not seen now, they go first when there is no room.
    room = max(encoding.max_size - len(learned), 0)
    kept = seen | (np.cumsum(~seen) <= room)
    fresh = learned.filter(pc.invert(pc.is_in(learned, champion)))
    return pa.concat_arrays([champion.filter(pa.array(kept)), fresh])


def _local_origins(
    name: str, count: int, space: FeatureSpace, champion: FeatureSpace
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Rows of the champion's stretch (count,), and which of them it had for this very value."""
    if name not in space.vocabularies:
        return np.arange(count), np.ones(count, np.bool_)
    values, ours, theirs = space.vocabularies[name], space.vocabulary(name), champion.vocabulary(name)
    found = pc.index_in(values, champion.vocabularies[name])
    place = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    local = np.where(place >= 0, place + theirs.unseen_rows, _unseen_until_now(values, theirs))
    same = ours.unseen == theirs.unseen
    unseen = np.arange(ours.unseen_rows) if same else np.zeros(ours.unseen_rows, np.int64)
    return np.concatenate([unseen, local]), np.concatenate([np.full(len(unseen), same), place >= 0])


def _unseen_until_now(values: pa.Array, encoding: Vocabulary) -> npt.NDArray[np.int64]:
    """Local row (n,) where a vocabulary's encoding looks up values that are not in it."""
    if encoding.unseen is None or encoding.unseen.like:
        return np.zeros(len(values), np.int64)
    import tensorflow as tf  # for its hash, the encoder's

    text = values.cast(pa.string()).to_pylist()
    return np.asarray(tf.strings.to_hash_bucket_fast(text, encoding.unseen.buckets))
