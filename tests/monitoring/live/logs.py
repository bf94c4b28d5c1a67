"""Prediction and click logs, drawn."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.prediction_log import LogFolder

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def predictions(rng, count, *, first=0, bundle="a" * 64, start=NOON, seconds=600.0, times=1.0, shown=True):
    """`count` predictions evenly over `seconds`; truth is their pCTR over `times`. Returns (table, clicked, times in seconds)."""
    truth = np.clip(0.1 * np.exp(0.8 * rng.standard_normal(count)), 1e-3, 0.9)
    pctr = np.clip(truth * times, 1e-3, 0.95).astype(np.float32)
    at = np.linspace(0, seconds, count, endpoint=False)
    time = [start + timedelta(seconds=float(s)) for s in at]
    device = np.where(rng.random(count) < 0.7, "phone", "desktop")
    table = pa.table(
        {
            "request_id": [f"r{first + i}" for i in range(count)],
            "time": pa.array(time, pa.timestamp("us", "UTC")),
            "bundle": [bundle] * count,
            "impression_id": pa.array([str(first + i) if shown else None for i in range(count)], pa.string()),
            "pctr": pctr,
            "features": pa.StructArray.from_arrays([pa.array(device)], names=["device"]),
        }
    )
    return table, rng.random(count) < truth, time


def write_predictions(folder, table, writer="w"):
    return LogFolder(folder, writer).write(table)


def write_clicks(folder, name, ids, times):
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"impression_id": pa.array(ids, pa.int64()), "click_time": pa.array(times, pa.timestamp("us", "UTC"))}
    )
    partial = folder / f".{name}.partial"
    pq.write_table(table, partial)
    partial.rename(folder / name)


def clicks_of(clicked, times, *, first=0, delay=5.0):
    """(ids, times) of the clicks, `delay` seconds after their predictions."""
    found = np.flatnonzero(clicked)
    return [first + int(i) for i in found], [times[i] + timedelta(seconds=delay) for i in found]
