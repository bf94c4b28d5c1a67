"""Five times more requests than can be answered, for 30 s: is the promise kept to those let in, and how soon is all as before?

    python tests/bench/overload.py [--times 5] [--seconds 30] [--deadline-ms 1000]

A real process whose graph takes 10 ms a run on one thread, so that 100 requests a second are its most and the processor is free for the turning away; where
the graph itself takes the processor, docs/benchmarks.md (Rankings) has the figures. Every answer is judged against the formula of the bundle.
Three predictions to one ranking; latency counts from when a request was due. Callers share the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from clickmill.bundle import Store
from serving.process import running_server
from tests.integration.fault_server import RUN
from tests.integration.load_process import Plan, Record, Report, callers
from tests.integration.test_faults import RATE, SLOW_SECONDS, metric, requests
from tests.serving.small_bundle import write_small_bundle

KINDS = {"right": "scored", "marked": "fallback, marked", "shed": "503, Retry-After", "late": "504"}
IN_TIME_SHARE, ROW = 0.95, "{:8} {:18} {:>7} {:>9} {:>9} {:>9} {:>9} {:>15}"


def main() -> None:
    options = _options()
    headers = {"x-request-timeout-ms": str(options.deadline_ms)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(
            _store(Path(folder)),
            model_name="small",
            python=RUN,
            wait_seconds=500,
            slow_seconds=SLOW_SECONDS,
            threads=1,
        ) as endpoint,
    ):
        target = endpoint.url.removeprefix("http://")

        def under(rate: float, seconds: float) -> Report:
            with callers(Plan([target], requests(**headers), rate)) as report:
                time.sleep(seconds)
            return report

        phases = {
            "before": under(RATE, 5),
            "flood": under(options.times / SLOW_SECONDS, options.seconds),
        }
        over = max(record.done for record in phases["flood"].records)
        own = metric(endpoint, "clickmill_late_answers_total")
        phases["after"] = under(RATE, 15)
    deadline = options.deadline_ms / 1e3
    print(ROW.format("phase", "answer", "number", "p50 ms", "p90 ms", "p99 ms", "most ms", "later than due"))
    for phase, report in phases.items():
        _tell(phase, report, deadline)
    print(f"as before {_recovery(phases['after'], over, deadline):.1f} s after the last answer of the flood")
    flood = len(phases["flood"].records)
    print(
        f"by the endpoint's own clock, from the head of a request to its answer, {own / flood:.1%} of the flood were late"
    )
    unanswered = [words for report in phases.values() for words in report.unanswered]
    print(f"without an answer or with a wrong one: {len(unanswered)}", *unanswered[:3], sep="\n  ")


def _store(folder: Path) -> Path:
    store = Store(folder / "store")
    store.add(write_small_bundle(folder / "bundle"))
    return store.root


def _tell(phase: str, report: Report, deadline: float) -> None:
    for kind, words in KINDS.items():
        seconds = [record.seconds for record in report.of(kind)]
        if seconds:
            quantiles = [f"{report.quantile(q, kind) * 1e3:.0f}" for q in (0.5, 0.9, 0.99)]
            late = sum(s > deadline for s in seconds) / len(seconds)
            print(
                ROW.format(phase, words, len(seconds), *quantiles, f"{max(seconds) * 1e3:.0f}", f"{late:.1%}")
            )


def _recovery(after: Report, over: float, deadline: float) -> float:
    """Seconds until a whole second comes in which nearly all are scored and in time; infinite when there is none."""

    def is_well(record: Record) -> bool:
        return record.kind == "right" and record.seconds <= deadline

    for first in after.records:
        second = after.between(first.due, first.due + 1).records
        if len(second) > 1 and sum(map(is_well, second)) >= IN_TIME_SHARE * len(second):
            return max(0.0, first.due - over)
    return float("inf")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=float, default=5.0, help="of the most that the graph can take")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the flood")
    parser.add_argument("--deadline-ms", type=int, default=1000, help="that every request has")
    return parser.parse_args()


if __name__ == "__main__":
    main()
