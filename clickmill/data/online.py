"""What the online store is loaded with: for every user and ad the latest values of their fields at one instant, as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from clickmill.contract import FeatureContract, Role
from clickmill.data import engine
from clickmill.data.aggregates import aggregates_at, aggregates_of
from clickmill.data.formats import ROW
from clickmill.errors import UnreadableData

ONLINE = "online.json"
ID = "id"
"""Column with the id as text."""


def value_column(field: str) -> str:
    """Column with the field's value; null where nothing is known."""
    return f"value:{field}"


def time_column(field: str) -> str:
    """Column with the instant at which a looked-up value was logged. Aggregates are all true at `as_of` and have none."""
    return f"time:{field}"


class OnlineEntity(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The ids of one kind."""

    file: str
    """Parquet file in the folder: `id`, then `value:<field>` and, for looked-up fields, `time:<field>`; one row per id, sorted."""
    ids: int
    """How many."""
    aggregates: tuple[str, ...]
    """Fields computed at `as_of`."""
    lookups: tuple[str, ...]
    """Fields whose latest logged value is kept, with its time."""


class OnlineMeta(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Content of online.json."""

    contract: str
    """Name of the contract."""
    contract_digest: str
    """Its digest."""
    as_of: datetime
    """The values are what an impression at this instant would have: nothing of the instant itself or later is in them."""
    entities: dict[str, OnlineEntity]
    """By the name of the id field."""


@dataclass(frozen=True)
class OnlineFeatures:
    """A folder with online.json and a Parquet file per id field."""

    root: Path
    meta: OnlineMeta

    @classmethod
    def open(cls, root: Path) -> OnlineFeatures:
        """Raises UnreadableData when the folder holds no online features."""
        try:
            return cls(root, OnlineMeta.model_validate_json((root / ONLINE).read_text()))
        except (OSError, ValidationError) as error:
            raise UnreadableData(
                f"{root}: holds no online features ({error}); prepare the data again"
            ) from error

    def batches(self, entity: str, *, rows: int = 10_000) -> Iterator[pa.Table]:
        """The rows of an id field in order of the id, at most `rows` at a time."""
        with pq.ParquetFile(self.root / self.meta.entities[entity].file) as file:
            for batch in file.iter_batches(rows):
                yield pa.Table.from_batches([batch])


def end_of(events: ibis.Table) -> datetime:
    """The instant right after the last impression: the first at which all of them are the past. `events`: from `aggregates.events_of`."""
    last = engine.one_row(events.aggregate(last=events.shown.max()))["last"]
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(last or 0) + 1)


def write_online(
    impressions: ibis.Table, events: ibis.Table, contract: FeatureContract, root: Path, *, as_of: datetime
) -> OnlineFeatures:
    """Write the folder `root` (made here) with what was known strictly before `as_of`.

    impressions: rows with `__row__` and the fields that are looked up; events: from `aggregates.events_of` over the same rows.
    """
    root.mkdir(parents=True)
    entities: dict[str, OnlineEntity] = {}
    for number, (by, fields) in enumerate(contract.entities.items()):
        aggregates = aggregates_of(contract).get(by, {})
        lookups = tuple(name for name in fields if name not in aggregates)
        table = _rows(impressions, events, contract, by, lookups, as_of)
        file = f"entity-{number:02}.parquet"
        ids = engine.copy_to_parquet(table.order_by(ID), root / file)
        entities[by] = OnlineEntity(file=file, ids=ids, aggregates=tuple(aggregates), lookups=lookups)
    meta = OnlineMeta(contract=contract.name, contract_digest=contract.digest, as_of=as_of, entities=entities)
    (root / ONLINE).write_text(meta.model_dump_json(indent=2))
    return OnlineFeatures(root, meta)


def _rows(
    impressions: ibis.Table,
    events: ibis.Table,
    contract: FeatureContract,
    by: str,
    lookups: tuple[str, ...],
    as_of: datetime,
) -> ibis.Table:
    aggregates = aggregates_of(contract).get(by, {})
    parts = []
    if aggregates:
        found = aggregates_at(events, by, aggregates, as_of)
        parts.append(found.select(id=found["id"], **{value_column(n): found[n] for n in aggregates}))
    if lookups:
        parts.append(_latest(impressions, contract, by, lookups, as_of))
    rows = parts[0]
    if len(parts) == 2:
        both = rows.outer_join(parts[1].rename(__other__="id"), rows[ID] == parts[1][ID])
        rows = both.mutate(id=ibis.coalesce(both[ID], both["__other__"])).drop("__other__")
    return rows.mutate(id=rows[ID].cast("string"))


def _latest(
    impressions: ibis.Table, contract: FeatureContract, by: str, lookups: tuple[str, ...], as_of: datetime
) -> ibis.Table:
    """The last value of each field that was logged before `as_of`, with its time; of several at one instant the last row's."""
    clock = impressions[str(contract.of_role(Role.EVENT_TIME))]
    past = impressions.filter(impressions[by].notnull() & (clock < as_of))
    past = past.select(
        id=past[by],
        at=past[str(contract.of_role(Role.EVENT_TIME))],
        row=past[ROW],
        **{n: past[n] for n in lookups},
    )
    order = ibis.struct({"at": past["at"], "row": past["row"]})
    found: dict[str, Any] = {}
    for name in lookups:
        found[value_column(name)] = past[name].argmax(order, where=past[name].notnull())
        found[time_column(name)] = past["at"].max(where=past[name].notnull())
    return past.group_by("id").agg(**found)
