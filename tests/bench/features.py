"""Feature store reads: one user and N ads at once, from the embedded store and from Redis, against the bare client.

    python tests/bench/features.py [--ids 200000] [--reads 2000]

Prints the median and the 99th percentile of `Lookup.find` in milliseconds, one caller without pause, and what the store alone took
(the same read without decoding and filling). Redis is started on loopback where redis-server is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from clickmill.data.online import ONLINE, OnlineEntity, OnlineFeatures, OnlineMeta
from clickmill.progress import SILENT
from serving.features import FeatureMetrics, Lookup, encoded, publication_of, shelf_at, store_at
from tests.serving.features.online_folder import AS_OF, CONTRACT
from tests.serving.features.redis_process import running_redis


def write(root: Path, ids: int) -> OnlineFeatures:
    """`ids` users and as many ads, every field known."""
    root.mkdir()
    rng, time_type = np.random.default_rng(0), pa.timestamp("us", "UTC")
    logged = pa.array([AS_OF] * ids, time_type)
    names = pa.array([f"{i:08}" for i in range(ids)])
    users = {
        "value:user_ctr": pa.array(rng.random(ids), pa.float32()),
        "value:segment": pa.array([f"s{k}" for k in rng.integers(0, 12, ids)]),
        "value:last_ads": pa.array([[1, 2, 3]] * ids, pa.list_(pa.int64())),
        "time:segment": logged,
        "time:last_ads": logged,
    }
    ads = {
        "value:ad_clicks": pa.array(rng.integers(0, 99, ids)),
        "value:price": pa.array(rng.random(ids), pa.float32()),
        "value:new": pa.array(rng.random(ids) < 0.1),
        "time:price": logged,
        "time:new": logged,
    }
    entities = {}
    for by, columns in {"user_id": users, "ad_id": ads}.items():
        pq.write_table(pa.table({"id": names, **columns}), root / f"{by}.parquet")
        kept = [c.removeprefix("value:") for c in columns if c.startswith("value:")]
        aggregates, lookups = tuple(kept[:1]), tuple(kept[1:])
        entities[by] = OnlineEntity(file=f"{by}.parquet", ids=ids, aggregates=aggregates, lookups=lookups)
    meta = OnlineMeta(contract="shop", contract_digest=CONTRACT.digest, as_of=AS_OF, entities=entities)
    (root / ONLINE).write_text(meta.model_dump_json())
    return OnlineFeatures(root, meta)


async def measure(target: str, ids: int, reads: int, ads: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of (reads,) lookups, and of the store alone."""
    store = store_at(target, "shop")
    lookup = Lookup(CONTRACT, store, FeatureMetrics(CollectorRegistry()), clock=AS_OF.timestamp)
    rng = np.random.default_rng(1)
    whole, alone = np.zeros(reads), np.zeros(reads)
    for k in range(-50, reads):
        wanted = {
            "user_id": [f"{rng.integers(ids):08}"],
            "ad_id": [f"{i:08}" for i in rng.integers(0, ids, ads)],
        }
        start = time.perf_counter()
        await lookup.find(wanted, deadline_s=5.0)
        middle = time.perf_counter()
        await store.read(wanted)
        if k >= 0:
            whole[k], alone[k] = middle - start, time.perf_counter() - middle
    await lookup.close()
    return whole * 1e3, alone * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=200_000, help="users, and as many ads")
    parser.add_argument("--reads", type=int, default=2000, help="of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        online = write(Path(scratch) / "online", arguments.ids)
        publication = publication_of(online, CONTRACT)

        def run(kind: str, target: str) -> None:
            start = time.perf_counter()
            rows = {by: encoded(online, by) for by in publication.entities}
            shelf_at(target, "shop").put(publication, rows, allow_older=False, progress=SILENT)
            rate = 2 * arguments.ids / (time.perf_counter() - start)
            print(f"{kind}: published {rate:,.0f} ids/s")
            for ads in (1, 32, 100, 1000):
                whole, alone = asyncio.run(measure(target, arguments.ids, arguments.reads, ads))
                print(
                    f"  1 user + {ads:>4} ads: lookup p50 {np.median(whole):.2f} ms, p99 {np.quantile(whole, 0.99):.2f} ms; "
                    f"store alone p50 {np.median(alone):.2f} ms, p99 {np.quantile(alone, 0.99):.2f} ms"
                )

        run("file", str(Path(scratch) / "shop.features"))
        if shutil.which("redis-server") is None:
            print("redis-server is not installed: Redis was not measured")
            return
        folder = Path(scratch) / "redis"
        folder.mkdir()
        with running_redis(folder) as redis:
            run("redis", redis.url)


if __name__ == "__main__":
    main()
