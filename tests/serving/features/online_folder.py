"""Online features made by hand: what `prepare` would leave, with numbers a reader can follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import Dtype, FeatureContract, loads
from clickmill.data.online import ONLINE, OnlineEntity, OnlineFeatures, OnlineMeta

CONTRACT = loads(
    """
name: shop
fields:
  at: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad_id: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  user_ctr: {role: user, dtype: float32, encoding: {kind: log1p}, default: 0.5, freshness: 2h,
             aggregate: {of: ctr, by: user_id, window: 7d}}
  segment: {role: user, dtype: string, encoding: {kind: vocabulary}, default: unknown, freshness: 1d, lookup_by: user_id}
  last_ads: {role: sequence, dtype: int64_list, encoding: {kind: list, max_length: 3, items: {kind: vocabulary, shares: ad_id}}, lookup_by: user_id}
  ad_clicks: {role: ad, dtype: int64, encoding: {kind: log1p}, aggregate: {of: clicks, by: ad_id, window: 1d}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 9.5, lookup_by: ad_id}
  new: {role: ad, dtype: bool, encoding: {kind: vocabulary}, lookup_by: ad_id}
"""
)
AS_OF = datetime(2026, 1, 5, 12, tzinfo=UTC)
"""When the hand-made features are true."""

_TIME = pa.timestamp("us", "UTC")
_TYPES = {
    Dtype.STRING: pa.string(),
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT32: pa.float32(),
    Dtype.BOOL: pa.bool_(),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
}


def write_folder(
    root: Path,
    users: dict[str, dict[str, Any]],
    ads: dict[str, dict[str, Any]],
    *,
    as_of: datetime = AS_OF,
    hours_ago: float = 0.0,
    contract: FeatureContract = CONTRACT,
) -> OnlineFeatures:
    """Values by id and field, all looked-up ones logged `hours_ago` before `as_of`; a field left out is not known."""
    root.mkdir()
    entities = {}
    for by, rows in {"user_id": users, "ad_id": ads}.items():
        fields = contract.entities[by]
        aggregates = tuple(name for name, f in fields.items() if f.aggregate)
        lookups = tuple(name for name in fields if name not in aggregates)
        columns: dict[str, pa.Array] = {"id": pa.array(sorted(rows), pa.string())}
        for name in (*aggregates, *lookups):
            values = [rows[i].get(name) for i in sorted(rows)]
            columns[f"value:{name}"] = pa.array(values, _TYPES[fields[name].dtype])
            if name in lookups:
                logged = as_of - timedelta(hours=hours_ago)
                columns[f"time:{name}"] = pa.array([None if v is None else logged for v in values], _TIME)
        pq.write_table(pa.table(columns), root / f"{by}.parquet")
        entities[by] = OnlineEntity(
            file=f"{by}.parquet", ids=len(rows), aggregates=aggregates, lookups=lookups
        )
    meta = OnlineMeta(contract=contract.name, contract_digest=contract.digest, as_of=as_of, entities=entities)
    (root / ONLINE).write_text(meta.model_dump_json())
    return OnlineFeatures(root, meta)


USERS = {
    "ann": {"user_ctr": 0.25, "segment": "gamers", "last_ads": [7, 8]},
    "bob": {"user_ctr": 0.125, "last_ads": [1, 2, 3, 4]},
    "zoë": {"segment": "retirees"},
}
ADS = {
    "7": {"ad_clicks": 3, "price": 2.5, "new": True},
    "8": {"ad_clicks": 0, "price": 1.25, "new": False},
}
