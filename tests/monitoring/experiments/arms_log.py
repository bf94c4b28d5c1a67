"""A prediction log with arms and a click log, as an endpoint under an experiment leaves them."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickmill.prediction_log import LogFolder
from monitoring.experiments import Watched
from tests.clickmill.experiment import drawn


def write(folder, *, users=2_000, seed=1, lift=0.0, spec=None):
    """Write both logs; clicks pay a price and come 5 seconds after what they click."""
    table = drawn.impressions(seed, users, lift=lift).sort_by("time")
    ids = pa.array([f"r{i}:0" for i in range(len(table))])
    predictions = pa.table(
        {
            "request_id": pa.array([f"r{i}" for i in range(len(table))]),
            "candidate": pa.array(np.zeros(len(table), np.int32)),
            "time": table["time"],
            "bundle": pa.array(["a" * 64] * len(table)),
            # what a fallback showed is part of its arm: every number below holds with it
            "fallback": pa.array([None if i % 7 else "overload" for i in range(len(table))], pa.string()),
            "arm": table["arm"],
            "impression_id": ids,
            "pctr": pa.array(np.full(len(table), 0.1, np.float32)),
            "features": pa.StructArray.from_arrays(
                [table[name].combine_chunks() for name in ("user_id", "device")], names=["user_id", "device"]
            ),
        }
    )
    # candidates that nobody saw: they must not count
    unseen = predictions.slice(0, 500).set_column(6, "impression_id", pa.nulls(500, pa.string()))
    LogFolder(folder / "log", "w").write(pa.concat_tables([predictions, unseen]).sort_by("time"))
    hit = pc.equal(table["clicked"], 1)
    clicks = pa.table(
        {
            "impression_id": ids.filter(hit.combine_chunks()),
            "click_time": pc.add(table["time"].filter(hit), pa.scalar(timedelta(seconds=5))),
            "price": table["revenue"].filter(hit),
        }
    )
    (folder / "clicks").mkdir()
    pq.write_table(clicks, folder / "clicks" / "c.parquet")
    return Watched(spec or drawn.spec(), folder / "log", folder / "clicks", timedelta(minutes=30))
