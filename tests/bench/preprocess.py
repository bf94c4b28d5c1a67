"""Rows per second of `prepare()` beside a plain DuckDB scan of the same Parquet file, on this machine, now.

    python tests/bench/preprocess.py [--rows 1000000] [--runs 5]

The scan aggregates over every column with the same memory and threads, so that it decompresses and decodes all of the
file and does nothing else: the least that anything that reads the file can cost. `prepare()` checks every rule and
every key, cuts by time, sorts and writes the splits. Runs alternate, so that a noisy neighbour hits both; medians are told.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clickmill.contract import FeatureContract, loads
from clickmill.data import PrepareOptions, connect, prepare

CONTRACT = """
name: bench
fields:
  impression_id: {role: impression_id, dtype: string, required: true}
  event_time: {role: event_time, dtype: timestamp, required: true}
  label: {role: label, dtype: int64, required: true}
  position: {role: position, dtype: int64, range: {min: 1, max: 10}}
  bid: {role: bid, dtype: float32}
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}, required: true}
  age: {role: user, dtype: int64, encoding: {kind: bucketize, quantiles: 10}, range: {min: 0, max: 120}}
  gender: {role: user, dtype: string, encoding: {kind: vocabulary}, allowed: [f, m, x]}
  ad_id: {role: ad, dtype: string, encoding: {kind: vocabulary}, required: true}
  advertiser_id: {role: ad, dtype: int64, encoding: {kind: hash, buckets: 1000}}
  category: {role: ad, dtype: string, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, range: {min: 0}}
  site_id: {role: context, dtype: string, encoding: {kind: vocabulary}}
  device: {role: context, dtype: string, encoding: {kind: vocabulary}}
  score: {role: context, dtype: float32, encoding: {kind: standardize}}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad_id}}}
  hour: {role: context, encoding: {kind: hour, of: event_time}}
"""


def write_impressions(path: Path, rows: int, *, shuffled: bool = False) -> FeatureContract:
    """A Parquet file of made-up impressions over ten days, 3 % clicks, keys of 32 characters, histories of 0 to 9 ads; in
    order of time, or in none. Returns its contract."""
    con = connect()
    con.raw_sql(
        f"""COPY (
        SELECT md5(i::VARCHAR) AS impression_id,
            to_timestamp(1767571200 + t * 864000.0 / {rows}) AS event_time,
            (hash(i, 1) % 1000 < 30)::BIGINT AS label,
            (1 + hash(i, 2) % 10)::BIGINT AS position,
            ((hash(i, 3) % 1000) / 500.0)::FLOAT AS bid,
            'u' || (hash(i, 4) % 200000) AS user_id,
            (18 + hash(i, 5) % 60)::BIGINT AS age,
            ['f', 'm', 'x'][(1 + hash(i, 6) % 3)::BIGINT] AS gender,
            'a' || (hash(i, 7) % 20000) AS ad_id,
            (hash(i, 8) % 500)::BIGINT AS advertiser_id,
            'c' || (hash(i, 9) % 40) AS category,
            ((hash(i, 10) % 10000) / 100.0)::FLOAT AS price,
            's' || (hash(i, 11) % 300) AS site_id,
            'd' || (hash(i, 12) % 12) AS device,
            ((hash(i, 13) % 2000) / 1000.0 - 1)::FLOAT AS score,
            list_transform(range((hash(i, 14) % 10)::BIGINT), lambda k: 'a' || (hash(i, k) % 20000)) AS history
        FROM (SELECT i, {"hash(i, 15) % " + str(rows) if shuffled else "i"} AS t FROM range({rows}) AS r(i)))
        TO '{path}' (FORMAT parquet)"""
    ).fetchall()
    con.disconnect()
    return loads(CONTRACT)


def scan(path: Path) -> None:
    """Decode every column once."""
    con = connect()
    columns = con.raw_sql(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
    totals = ", ".join(f'max("{column[0]}")' for column in columns)
    con.raw_sql(f"SELECT {totals} FROM read_parquet('{path}')").fetchall()
    con.disconnect()


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file (default 1,000,000)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--shuffled", action="store_true", help="rows in no order of time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "impressions.parquet"
        contract = write_impressions(path, args.rows, shuffled=args.shuffled)
        scans, prepares = [], []
        for run in range(args.runs):
            scans.append(timed(lambda: scan(path)))
            out = Path(folder) / f"dataset{run}"
            prepares.append(timed(lambda out=out: prepare(path, contract, out, options=PrepareOptions())))
        plain, full = statistics.median(scans), statistics.median(prepares)
    print(f"{args.rows:,} rows, {len(contract.columns)} columns, {args.runs} alternating runs, medians")
    print(f"  DuckDB scan  {args.rows / plain:12,.0f} rows/s  {plain:7.2f} s")
    print(f"  prepare()    {args.rows / full:12,.0f} rows/s  {full:7.2f} s")
    print(f"  ratio        {full / plain:12.1f} times the scan")


if __name__ == "__main__":
    main()
