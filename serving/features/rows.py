"""Rows of a store as columns: decoded, judged by age and definition, filled. Pure: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import ContractField, Dtype
from clickmill.features import tensors
from serving.features.publication import ARROW, PublishedEntity
from serving.features.store import Stored

Fields = Mapping[str, ContractField]


class Reason(StrEnum):
    """Why the contract's default stands where a value could."""

    NO_ID = "no_id"  # the request does not say who or what
    UNKNOWN_ID = "unknown_id"  # the store has never heard of it: a new user, a new ad
    NO_VALUE = "no_value"  # the id is known, this field of it was never logged
    STALE = "stale"  # older than the contract's `freshness`
    NOT_PUBLISHED = (
        "not_published"  # nothing published yet, or by a contract that lacks the field or makes it otherwise
    )
    UNREADABLE = "unreadable"  # what lies there is not what the publication says
    LATE = "late"  # the store did not answer within the request's deadline
    UNREACHABLE = "unreachable"  # it did not answer at all


@dataclass(frozen=True)
class Column:
    """One field for the n ids asked for."""

    values: np.ndarray
    """(n,) or (n, L), filled."""
    reasons: np.ndarray
    """(n,) of Reason or None."""
    counts: Mapping[Reason, int]
    """How often each."""
    ages: np.ndarray
    """Seconds, of the values found; stale ones are found too."""


_NO_AGES = np.zeros(0)


def nothing(fields: Fields, ids: Sequence[str | None], reason: Reason) -> dict[str, Column]:
    """Defaults for all, since the store said nothing."""
    n = len(ids)
    return {
        name: Column(
            tensors.filled(pa.nulls(n, ARROW[_dtype(f)]), f),
            np.full(n, reason, dtype=object),
            {reason: n},
            _NO_AGES,
        )
        for name, f in fields.items()
    }


def columns_of(
    fields: Fields,
    definitions: Mapping[str, str],
    entity: str,
    ids: Sequence[str | None],
    stored: Stored,
    now: float,
) -> dict[str, Column]:
    """The fields of an entity for `ids`, of which `stored` was asked for those that are not None.

    definitions: `publication.definition` of each field, which takes longer than a read. now: seconds since 1970.
    """
    publication = stored.publication
    held = publication.entities.get(entity) if publication else None
    usable = {
        name: f
        for name, f in fields.items()
        if publication
        and held
        and name in held.fields
        and publication.definitions.get(name) == definitions[name]
    }
    columns = nothing({n: f for n, f in fields.items() if n not in usable}, ids, Reason.NOT_PUBLISHED)
    if publication and held and usable:
        try:
            columns |= _decoded(usable, held, ids, stored.rows[entity], publication.as_of.timestamp(), now)
        except (ValueError, TypeError):  # JSON that is none, values of other types, rows of another length
            columns |= nothing(usable, ids, Reason.UNREADABLE)
    return columns


def _decoded(
    fields: Fields,
    held: PublishedEntity,
    ids: Sequence[str | None],
    blobs: Sequence[bytes | None],
    as_of: float,
    now: float,
) -> dict[str, Column]:
    rows = [orjson.loads(blob) for blob in blobs if blob is not None]
    width = len(held.fields) + len(held.timed)
    by_column = list(zip(*rows, strict=True)) if rows else [()] * width
    if len(by_column) != width:
        raise ValueError(f"rows of {len(by_column)} values, the publication says {width}")
    named = np.fromiter((i is not None for i in ids), bool, len(ids))
    known = named.copy()
    known[named] = np.fromiter((blob is not None for blob in blobs), bool, len(blobs))
    why = np.full(len(ids), None, dtype=object)
    why[~named] = Reason.NO_ID
    why[named & ~known] = Reason.UNKNOWN_ID
    counts = {Reason.NO_ID: int((~named).sum()), Reason.UNKNOWN_ID: int((named & ~known).sum())}
    place = None if known.all() else pa.array(np.cumsum(known) - 1, mask=~known)
    columns = {}
    for name, f in fields.items():
        index = held.fields.index(name)
        values = _array(by_column[index], f)
        timed = name in held.timed
        if timed:
            times = by_column[len(held.fields) + held.timed.index(name)]
            ages = now - np.array(times, dtype=np.float64) / 1e6  # null times are NaN
        else:
            ages = np.full(len(values), now - as_of)
        found = values.is_valid().to_numpy(zero_copy_only=False)
        stale = found & (ages > f.freshness.total_seconds()) if f.freshness else np.zeros(len(values), bool)
        # An aggregate without events in its window is the default, and known to be.
        absent = ~found if timed else np.zeros(len(values), bool)
        own, own_counts = why, counts
        if stale.any() or absent.any():
            own, own_counts = (
                why.copy(),
                counts | {Reason.STALE: int(stale.sum()), Reason.NO_VALUE: int(absent.sum())},
            )
            own[np.flatnonzero(known)[stale]] = Reason.STALE
            own[np.flatnonzero(known)[absent]] = Reason.NO_VALUE
            values = pc.if_else(pa.array(stale), pa.scalar(None, values.type), values)
        columns[name] = Column(
            tensors.filled(values if place is None else values.take(place), f),
            own,
            own_counts,
            np.maximum(ages[found], 0.0),
        )
    return columns


def _array(values: Sequence[object], f: ContractField) -> pa.Array:
    wanted = ARROW[_dtype(f)]
    if pa.types.is_timestamp(wanted):
        return pa.array(values, pa.int64()).cast(wanted)
    return pa.array(values, wanted)


def _dtype(f: ContractField) -> Dtype:
    assert f.dtype is not None, "derived fields are not kept"
    return f.dtype
