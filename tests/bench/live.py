"""Live quality at the size of a day: what a file costs and what a look costs, when the state holds ten million impressions.

    python tests/bench/live.py                       (about ten seconds of CPU and 200 MB of disk)

The state is filled in the database, evenly over the 22 hours that it keeps, one impression in twenty clicked; then one file of 20,000
predictions and one of their clicks are taken in as a monitor does, and a look is made at its two windows and one slice.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np

from monitoring.live import LabelJoin, LiveSettings, look
from tests.monitoring.live import logs

HOURS = 22
FILE_ROWS = 20_000


def fill(joined: LabelJoin, impressions: int) -> None:
    """Straight into the tables: how they come there is not what is measured."""
    step = HOURS * 3_600_000_000 // impressions
    start = logs.NOON - timedelta(hours=HOURS)
    joined._db.execute(
        "INSERT INTO impressions SELECT 'k' || i, repeat('a', 64), $start + to_microseconds((i * $step)::BIGINT), random() * 0.1,"
        " CASE WHEN random() < 0.6 THEN 'phone' ELSE 'desktop' END FROM range($count) AS made(i)",
        {"start": start, "step": step, "count": impressions},
    )
    joined._db.execute(
        "INSERT INTO clicks SELECT key, time + INTERVAL 5 SECOND FROM impressions WHERE random() < 0.05"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=10_000_000, help="in the state")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clickmill-live-") as name:
        folder = Path(name)
        with LabelJoin(folder / "state.duckdb", LiveSettings(slices=("device",))) as joined:
            fill(joined, given.impressions)
            table, clicked, times = logs.predictions(np.random.default_rng(0), FILE_ROWS)
            logs.write_predictions(folder / "log", table)
            logs.write_clicks(folder / "clicks", "c.parquet", *logs.clicks_of(clicked, times))
            now = logs.NOON + timedelta(minutes=50)
            used = time.process_time()
            joined.ingest(folder / "log", folder / "clicks", now)
            taken = time.process_time()
            found, _ = look(joined, folder / "log", folder / "clicks", now)
            looked = time.process_time()
        size = sum(path.stat().st_size for path in folder.glob("state.duckdb*"))
    judged = {
        window: sum(one.labelled.impressions for one in slices if not one.field)
        for window, slices in found.slices.items()
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.impressions:,} impressions in the state, {size / 1e6:.0f} MB on disk")
    print(f"  two files of {FILE_ROWS:,} impressions and their clicks: {taken - used:.2f} s of CPU")
    windows = ", ".join(f"{count:,} judged in {window / 3600:g} h" for window, count in judged.items())
    print(f"  a look: {looked - taken:.2f} s of CPU ({windows}); peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
