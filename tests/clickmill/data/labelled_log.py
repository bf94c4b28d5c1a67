"""A small impression log with labels, and its contract."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import loads

START = datetime(2026, 1, 5, tzinfo=UTC)
LABELLED = """
name: t
fields:
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  position: {role: position, dtype: int64}
  site: {role: context, dtype: string, encoding: {kind: vocabulary}}
"""
CONTRACT = loads(LABELLED)


def log(n=1000, *, ctr=0.1, seed=0, start=START):
    """An impression a minute; clicks by chance."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "event_time": [start + timedelta(minutes=int(m)) for m in range(n)],
            "label": (rng.random(n) < ctr).astype("int64"),
            "position": rng.integers(1, 4, n),
            "site": [f"s{k}" for k in rng.integers(0, 9, n)],
        }
    )


def save(frame, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    return path
