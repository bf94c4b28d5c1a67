"""One loading of the store: what it holds, since when it is true, and how a user or an ad becomes the bytes kept under its id.

A row is a JSON array, readable where it lies (`HGET "clickmill:features:{world}:ad_id" a1443`): the values of `fields` in order, then the
times of the looked-up ones in microseconds since 1970. Aggregates have no time of their own: all are true at `as_of`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime

import orjson
import pyarrow as pa
from pydantic import BaseModel

from clickmill.contract import ContractField, Dtype, FeatureContract
from clickmill.data.online import ID, OnlineFeatures, time_column, value_column
from clickmill.errors import UsageError
from clickmill.progress import SILENT, Progress


class PublishedEntity(BaseModel, frozen=True, extra="ignore", use_attribute_docstrings=True):
    """The ids of one kind."""

    ids: int
    """How many."""
    fields: tuple[str, ...]
    """Names of the values of a row, in order."""
    timed: tuple[str, ...]
    """Those of them whose times follow."""


class Publication(BaseModel, frozen=True, extra="ignore", use_attribute_docstrings=True):
    """What is said of the whole; readers take what they know and leave the rest."""

    contract: str
    """Name of the contract."""
    version: str
    """Digest of everything that is in it: the same content is the same version."""
    as_of: datetime
    """When the aggregates were true."""
    entities: dict[str, PublishedEntity]
    """By the name of the id field."""
    definitions: dict[str, str]
    """By field, how its values were made. Values of another definition than the reader's contract has are not used."""


def definition(field: ContractField) -> str:
    """What a field's values depend on: two fields of one definition may stand in for each other."""
    meaning = field.model_dump(mode="json", include={"dtype", "aggregate"}, exclude_none=True)
    if field.aggregate is not None:
        meaning["default"] = field.fill  # rates are smoothed towards it
    return json.dumps(meaning, sort_keys=True)


def publication_of(
    online: OnlineFeatures, contract: FeatureContract, progress: Progress = SILENT
) -> Publication:
    """Reads everything once, for the version. Raises UsageError when the features were made by another contract."""
    meta = online.meta
    if meta.contract_digest != contract.digest:
        raise UsageError(
            f"{online.root}: was made by another contract than `{contract.name}` version {contract.version}; prepare the data again"
        )
    entities = {
        by: PublishedEntity(ids=e.ids, fields=(*e.aggregates, *e.lookups), timed=e.lookups)
        for by, e in meta.entities.items()
    }
    names = [name for entity in entities.values() for name in entity.fields]
    definitions = {name: definition(contract.fields[name]) for name in names}
    head = {"as_of": meta.as_of.isoformat(), "definitions": definitions, "contract": meta.contract}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    progress.start("reading the features", sum(e.ids for e in entities.values()), "ids")
    for by in entities:
        digest.update(by.encode())
        for rows in encoded(online, by):
            digest.update(b"".join(b"%d:%b%b" % (len(key), key, value) for key, value in rows.items()))
            progress.advance(len(rows))
    progress.finish()
    return Publication(
        contract=meta.contract,
        version=digest.hexdigest()[:16],
        as_of=meta.as_of,
        entities=entities,
        definitions=definitions,
    )


def encoded(online: OnlineFeatures, by: str, *, rows: int = 1000) -> Iterator[Mapping[bytes, bytes]]:
    """The ids of a kind and their bytes, in order of the id, at most `rows` at a time."""
    entity = online.meta.entities[by]
    for batch in online.batches(by, rows=rows):
        columns = [batch[value_column(name)] for name in (*entity.aggregates, *entity.lookups)]
        columns += [batch[time_column(name)] for name in entity.lookups]
        values = zip(*(_plain(column).to_pylist() for column in columns), strict=True)
        yield dict(zip((i.encode() for i in batch[ID].to_pylist()), map(orjson.dumps, values), strict=True))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(column.type):
        return column
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())


ARROW: dict[Dtype, pa.DataType] = {
    Dtype.STRING: pa.string(),
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT32: pa.float32(),
    Dtype.BOOL: pa.bool_(),
    Dtype.TIMESTAMP: pa.timestamp("us", "UTC"),
    Dtype.STRING_LIST: pa.list_(pa.string()),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
}
"""What a field's JSON values are read back as."""
