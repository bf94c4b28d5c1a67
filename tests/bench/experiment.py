"""What experiments cost and what their intervals promise.

    python tests/bench/experiment.py sums [--impressions 100000000] [--users 2000000]     DuckDB: a log to per-user sums
    python tests/bench/experiment.py looks [--experiments 10000] [--looks 50]             false alarms under continuous looking
    python tests/bench/experiment.py interference                                         what shared budgets do to an answer

`sums` draws the log in DuckDB itself and writes it as Parquet; timed is what `clickmill experiment analyze` does with it: the check, the
sums by user and look, the moments of the last look. Peak memory is of a process of its own that does nothing else.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np

from clickmill.experiment import ExperimentSpec
from clickmill.experiment.log import log
from clickmill.experiment.reading import connection
from clickmill.experiment.user_sums import UserSums

SPEC = ExperimentSpec.model_validate(
    {
        "name": "bench",
        "arms": {"a": {}, "b": {}},
        "control": "a",
        "start": "2026-03-02T00:00:00Z",
        "secondary": ["rpm"],
    }
)
DAYS = 14


def draw(path: Path, impressions: int, users: int) -> None:
    """Users of very different eagerness, split by a hash, clicking at 3 %."""
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as con:
        con.execute(
            f"""COPY (
                SELECT user_id, CASE WHEN hash(user_id) % 2 = 0 THEN 'a' ELSE 'b' END AS arm,
                       (TIMESTAMPTZ '2026-03-02T00:00:00Z' + to_microseconds((number * {DAYS * 86_400_000_000 / impressions})::BIGINT)) AS time,
                       clicked, clicked * 0.4::DOUBLE AS revenue
                FROM (SELECT range AS number, (pow(random(), 2) * {users})::BIGINT AS user_id, (random() < 0.03)::TINYINT AS clicked
                      FROM range({impressions}))
            ) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 1000000)"""
        )


def sums(arguments: argparse.Namespace) -> None:
    """Time and memory of one analysis."""
    if arguments.path:
        begin = time.perf_counter()
        with connection() as con:
            found = UserSums(con, log(con, [Path(arguments.path)], SPEC), SPEC)
            summed = time.perf_counter() - begin
            arms = found.until(found.last_look)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        n, users = sum(arm.total("impressions") for arm in arms.values()), sum(arm.n for arm in arms.values())
        print(
            f"{n:,.0f} impressions of {users:,} users on {DAYS} days: checked and summed by user and day in {summed:.1f} s, "
        )
        print(
            f"moments of the last look {time.perf_counter() - begin - summed:.1f} s more; peak memory {peak:.2f} GiB"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        begin = time.perf_counter()
        draw(path, arguments.impressions or 100_000_000, arguments.users)
        print(
            f"drawn in {time.perf_counter() - begin:.0f} s, {path.stat().st_size / 2**20:,.0f} MiB of Parquet",
            flush=True,
        )
        subprocess.run([sys.executable, __file__, "sums", "--path", str(path)], check=True)


def looks(arguments: argparse.Namespace) -> None:
    """How many experiments with equal arms are ever called different."""
    from clickmill.experiment.difference import estimate, pairs

    rng = np.random.default_rng(arguments.seed)
    users, chunk = 600, 500
    half = users // 2
    always = once = done = 0
    planned = pairs(half * 1.5 * arguments.looks, half * 1.5 * arguments.looks)
    while done < arguments.experiments:
        rate = rng.beta(1.5, 13.5, (chunk, users)).astype(np.float32)
        eager = rng.gamma(1.0, 1.5, (chunk, users)).astype(np.float32)
        y, d = np.zeros((2, chunk, users), np.float32)
        wrong, naive = np.zeros((2, chunk), bool)
        for _ in range(arguments.looks):
            shown = rng.poisson(eager)
            y += rng.binomial(shown, rate)
            d += shown
            (r0, v0, n0), (r1, v1, n1) = (
                _rates(y[:, part], d[:, part]) for part in (slice(0, half), slice(half, users))
            )
            z = np.abs(r1 - r0) / np.sqrt(v0 + v1)
            enough = (y[:, :half].sum(1) >= 100) & (y[:, half:].sum(1) >= 100)
            naive |= enough & (z > 1.96)
            at = pairs(n1, n0)
            grid = np.linspace(at.min(), at.max(), 9)
            edge = [1.0 - estimate(1.0, 1.0, float(n), alpha=0.05, planned=planned).low for n in grid]
            wrong |= enough & (z > np.interp(at, grid, edge))
        always, once, done = always + int(wrong.sum()), once + int(naive.sum()), done + chunk
    print(
        f"{done:,} experiments with equal arms, {users} users, {arguments.looks} looks: called different by the always-valid interval "
        f"{always / done:.2%}, by an interval for one look {once / done:.1%} (level 5 %)"
    )


def _rates(y: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Click rate, its variance by the delta method, impressions; an experiment per row."""
    r = y.sum(axis=1) / d.sum(axis=1)
    residual = y - r[:, None] * d
    return r, residual.var(axis=1, ddof=1) / d.mean(axis=1) ** 2 / y.shape[1], d.sum(axis=1)


def interference(arguments: argparse.Namespace) -> None:
    """An experiment that shares budgets, beside the truth."""
    from clickmill.data.world import WorldConfig
    from clickmill.experiment.interference import share_budgets

    print(
        share_budgets(
            WorldConfig(impressions=arguments.impressions or 200_000, seed=arguments.seed, days=2)
        ).words
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("sums", "looks", "interference"))
    parser.add_argument(
        "--impressions", type=int, help="default: 100,000,000 for sums, 200,000 for interference"
    )
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--looks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--path", help="a log to sum up: what the bench calls itself with")
    arguments = parser.parse_args()
    {"sums": sums, "looks": looks, "interference": interference}[arguments.what](arguments)


if __name__ == "__main__":
    main()
