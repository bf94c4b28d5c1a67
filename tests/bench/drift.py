"""Drift: ours beside plain Evidently on the same rows, and ten million rows of thirty fields in bounded memory.

    python tests/bench/drift.py                                    all parts (about ten minutes and 2 GB of disk)
    python tests/bench/drift.py --raw-rows 0 --large-rows 0        beside Evidently on the same cells only

Ten numbers and twenty categories, five of them ids of up to a million values. A quarter of the fields are moved, by little and by much.
Both sides get the same statistics and thresholds: Wasserstein 0.1 for numbers, Jensen-Shannon 0.1 for categories. Evidently's clock
runs over `Report.run` only, on frames that are made before; ours over the reference's cells and the window's count and verdicts, on
tables that are made before. Both run in this process, one after the other; CPU time is told beside the wall's, since others may be here.

Evidently is asked twice. On the same cells: rare ids as the hash buckets that we count, which is what our own report gives it, so that
time and verdicts compare. On the ids themselves, as one would who gives it a table: then any two samples of an id differ, since most
values come once, and it takes so long that the window is smaller. The large part reads a prediction log from disk, in a process of its
own whose peak memory is told.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from clickmill import contract as contracts
from clickmill.contract import FeatureContract
from clickmill.prediction_log import LogFolder
from monitoring.drift import Batch, Drift, DriftSettings, Examined, Measure, examine, learn
from monitoring.drift.window import log_batches, logged_bundles

NUMBERS = [f"n{i}" for i in range(10)]
FEW = [f"c{i}" for i in range(15)]
IDS = [f"id{i}" for i in range(5)]
MOVED = {"n0": 0.02, "n1": 0.15, "n2": 0.5, "n3": 3.0, "c0": 0.03, "c1": 0.2, "c2": 0.5, "id0": 0.3}
"""Numbers move by deviations; of a category this share falls on another value. The rest stays."""
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FILE_ROWS = 500_000
GIB = 1 << 30


def contract() -> FeatureContract:
    """Numbers as they are, so that both sides measure on one scale."""
    number = "{role: ad, dtype: float32, encoding: {kind: standardize}}"
    few = "{role: ad, dtype: string, encoding: {kind: vocabulary}}"
    ids = "{role: ad, dtype: string, encoding: {kind: hash, buckets: 1000000}}"
    lines = [f"  {name}: {number}" for name in NUMBERS]
    lines += [f"  {name}: {few}" for name in FEW] + [f"  {name}: {ids}" for name in IDS]
    return contracts.loads(
        "name: bench\nfields:\n" + "\n".join(lines) + "\n  clicked: {role: label, dtype: int64}\n"
    )


def rows(count: int, seed: int, *, moved: bool) -> pa.Table:
    """A sample of the market, as it was or as it moved."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(NUMBERS):
        values = rng.normal(size=count) if i % 2 else rng.lognormal(sigma=0.7, size=count)
        columns[name] = pa.array((values + MOVED.get(name, 0.0) * moved).astype(np.float32))
    for i, name in enumerate(FEW):
        values = (rng.random(count) ** 2 * (3 + 5 * i)).astype(np.int32)
        values = np.where(rng.random(count) < MOVED.get(name, 0.0) * moved, 0, values)
        columns[name] = _words(values, 3 + 5 * i, "v")
    for i, name in enumerate(IDS):
        most = 10 ** (i + 2)
        values = (most * rng.random(count) ** 4).astype(np.int32)
        values = np.where(rng.random(count) < MOVED.get(name, 0.0) * moved, most - 1, values)
        columns[name] = _words(values, most, "id")
    columns["pctr"] = pa.array((1 / (1 + np.exp(3 - rng.normal(size=count)))).astype(np.float32))
    return pa.table(columns)


def _words(values: np.ndarray, most: int, prefix: str) -> pa.Array:
    named, at = np.unique(values, return_inverse=True)
    return pa.array([f"{prefix}{n}" for n in named], pa.string()).take(pa.array(at))


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        return Seconds(time.perf_counter() - self._began, time.process_time() - self._used)


class Seconds(NamedTuple):
    wall: float
    cpu: float


def ours(reference: pa.Table, window: pa.Table, settings: DriftSettings) -> tuple[Seconds, Seconds, Examined]:
    """Seconds of all, seconds of the window alone: a monitor learns a reference once and looks at windows for days."""
    clock = Clock()
    known = learn(reference, contract(), settings, filled=False, salt=None)
    columns = {name: window.column(name).combine_chunks() for name in window.column_names}
    known_now = Clock()
    batch = Batch(len(window), columns, len(window))
    examined = examine(known, [batch], settings, bundle="b", model="m", start=None, end=NOON)
    return clock.read(), known_now.read(), examined


def evidently(
    reference: pa.Table, window: pa.Table, settings: DriftSettings
) -> tuple[Seconds, dict[str, float]]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = NUMBERS + FEW + IDS
    definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=FEW + IDS)
    now, before = (
        Dataset.from_pandas(table.select(names).to_pandas(), data_definition=definition)
        for table in (window, reference)
    )
    preset = DataDriftPreset(
        num_method="wasserstein",
        num_threshold=settings.wasserstein,
        cat_method="jensenshannon",
        cat_threshold=settings.jensen_shannon,
    )
    clock = Clock()
    snapshot = Report([preset]).run(now, before)
    seconds = clock.read()
    metrics = json.loads(snapshot.json())["metrics"]
    return seconds, {
        m["config"]["column"]: float(m["value"])
        for m in metrics
        if m["config"]["type"].endswith(":ValueDrift")
    }


def beside(count: int, *, same_cells: bool) -> None:
    """One window on both sides, warmed up by a small one."""
    settings = DriftSettings(numbers_by=(Measure.WASSERSTEIN,), report="none")
    reference, window = rows(50_000, 1, moved=False), rows(count, 2, moved=True)
    small = reference.slice(0, 2_000), window.slice(0, 2_000)
    ours(*small, settings)  # imports and first calls
    our_seconds, of_window, examined = ours(reference, window, settings)
    sides = reference, window
    if same_cells:
        every = settings.model_copy(update={"report": "evidently", "sample_rows": max(len(reference), count)})
        _, _, whole = ours(reference, window, every)
        assert whole.reference_sample is not None
        assert whole.window_sample is not None
        sides = whole.reference_sample, whole.window_sample
        assert [len(side) for side in sides] == [len(reference), count]
    evidently(*(side.slice(0, 2_000) for side in sides), settings)
    their_seconds, theirs = evidently(*sides, settings)
    which = "on the same cells" if same_cells else "on the ids themselves"
    print(
        f"Evidently {which}: reference {len(reference):,} rows, window {count:,} rows, {len(theirs)} fields"
    )
    for name, seconds in (
        ("ours", our_seconds),
        ("its window", of_window),
        ("Evidently", their_seconds),
    ):
        print(
            f"  {name:10} {seconds.wall:8.2f} s {seconds.cpu:8.2f} s of CPU {count / seconds.cpu:12,.0f} rows per second of CPU"
        )
    wall, cpu = their_seconds.wall / our_seconds.wall, their_seconds.cpu / our_seconds.cpu
    print(f"  ratio      {wall:8.1f}   {cpu:8.1f} of CPU (goal 10; ours counts the prediction too)")
    judging = {"number": Measure.WASSERSTEIN, "category": Measure.JENSEN_SHANNON}
    differing = 0
    for field in examined.found.fields:
        if field.field not in theirs:
            continue  # the prediction
        measured, distance = field.measures[judging[field.kind]], theirs[field.field]
        same = (field.drift is Drift.DRIFTED) == (distance >= settings.threshold(judging[field.kind]))
        differing += not same
        if not same or field.field in MOVED:
            print(
                f"  {field.field:4} moved by {MOVED.get(field.field, 0):<4} ours {measured:.4f} {field.drift:8} Evidently {distance:.4f}"
                f"{'' if same else '  DIFFERENT VERDICT'}"
            )
    print(f"  verdicts: {len(theirs) - differing} of {len(theirs)} equal")


def write_large(folder: Path, count: int) -> None:
    """A prediction log of files of half a million rows, each drawn anew."""
    log = LogFolder(folder, "bench")
    for number in range(count // FILE_ROWS):
        table = rows(FILE_ROWS, 100 + number, moved=True)
        features = pa.StructArray.from_arrays(
            [table.column(name).combine_chunks() for name in table.column_names if name != "pctr"],
            names=[name for name in table.column_names if name != "pctr"],
        )
        at = NOON - timedelta(minutes=number + 1)
        log.write(
            pa.table(
                {
                    "request_id": pa.array(np.arange(FILE_ROWS)).cast(pa.string()),
                    "time": pa.array([at] * FILE_ROWS, pa.timestamp("us", "UTC")),
                    "bundle": pa.array(["b" * 64] * FILE_ROWS),
                    "impression_id": pa.array(np.arange(FILE_ROWS)).cast(pa.string()),
                    "pctr": table.column("pctr"),
                    "features": features,
                }
            )
        )


def read_large(folder: Path) -> None:
    """In a process of its own: its peak memory is that of the whole job, imports included."""
    settings = DriftSettings(report="none")
    known = learn(rows(50_000, 1, moved=False), contract(), settings, filled=True, salt=None)
    start = NOON - timedelta(days=1)
    [files] = logged_bundles(folder, start, NOON).values()
    clock = Clock()
    batches = log_batches(files, known.watched, start=start, end=NOON, shown_only=True)
    found = examine(known, batches, settings, bundle="b" * 64, model="m", start=start, end=NOON).found
    seconds = clock.read()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    moved = sorted(f.field for f in found.fields if f.drift is Drift.DRIFTED)
    size = sum(path.stat().st_size for path in files)
    print(
        f"{found.rows:,} rows, {len(found.fields) - 1} fields and the prediction, {size / GIB:.2f} GiB of Parquet in {len(files)} files"
    )
    print(
        f"  {seconds.wall:.1f} s, {seconds.cpu:.1f} s of CPU, {found.rows / seconds.wall:,.0f} rows/s, peak memory {peak / GIB:.2f} GiB (goal 3)"
    )
    print(f"  drifted: {', '.join(moved)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=100_000,
        help="rows of the window beside Evidently on the same cells; 0: none",
    )
    parser.add_argument(
        "--raw-rows", type=int, default=20_000, help="rows beside Evidently on the ids themselves; 0: none"
    )
    parser.add_argument(
        "--large-rows", type=int, default=10_000_000, help="rows of the log, in half millions; 0: none"
    )
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read_large(given.read)
        return
    if given.rows:
        beside(given.rows, same_cells=True)
    if given.raw_rows:
        beside(given.raw_rows, same_cells=False)
    if given.large_rows:
        with tempfile.TemporaryDirectory(prefix="clickmill-drift-") as folder:
            write_large(Path(folder), given.large_rows)
            subprocess.run([sys.executable, __file__, "--read", folder], check=True)


if __name__ == "__main__":
    main()
