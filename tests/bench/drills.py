"""Every drill, several times: was the verdict the one that must follow, and how long did it take? Writes a table and, per run, a page.

    python tests/bench/drills.py --runs 5 --out out/drills-bench [--drills slow-bundle,nan-bundle] [--minutes 60]

Each run is a system of its own, started and stopped (about 100 s). Runs during which the machine stood still for more than 2 s (another
program had the processor) are told apart, since they try the machine and not the fault. Results are kept by run: the same command goes on where
it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from clickmill.errors import ClickmillError
from monitoring import drills

FIELDS = ("alert_to_stable", "fault_to_restored", "fault_to_told")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/drills-bench"))
    parser.add_argument("--drills", default=",".join(drills.DRILLS))
    parser.add_argument("--contract", type=Path, default=Path("contracts/world.yaml"))
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no further run is begun")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    good = drills.good_bundle(given.out / "made", given.contract, print)
    end = time.monotonic() + 60 * given.minutes
    names = given.drills.split(",")
    for run in range(given.runs):  # all drills once, then again: stopped early, each has had as many runs
        for name in names:
            if any((one["drill"], one["run"]) == (name, run) for one in done) or time.monotonic() > end:
                continue
            one = _run(name, run, good, given.out)
            done.append(one)
            with results.open("a") as file:
                file.write(json.dumps(one) + "\n")
            print(f"{time.strftime('%H:%M:%S')} {name} {run}: {one['problems'] or 'as expected'}", flush=True)
    print(table([one for one in done if one["drill"] in names]))


def _run(name: str, run: int, good: Path, out: Path) -> dict[str, object]:
    folder = out / f"{name}-{run}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    one: dict[str, object] = {"drill": name, "run": run}
    try:
        drilled = drills.run(
            drills.DRILLS[name], good, out / "made", folder / "site", say=lambda words: None, seed=run
        )
    except ClickmillError as error:
        return one | {"problems": [f"did not run: {error}"], "lost": None, "asked_again": None, "requests": 0}
    drills.write_page(drilled, folder / "report.html")
    outcome = drilled.outcome
    return one | {
        **{field: getattr(outcome, field) for field in FIELDS},
        "problems": list(outcome.problems),
        "lost": outcome.lost,
        "asked_again": outcome.asked_again,
        "requests": outcome.requests,
        "reason": outcome.reason,
        "paused": outcome.paused,
    }


def table(done: Sequence[dict]) -> str:
    """Markdown: one line per drill, medians with the greatest in brackets."""
    lines = [
        "| drill | as expected | of runs while the machine stood still | alert to all on stable, s | fault to restored, s | fault to people told, s | lost | asked again | requests |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one["drill"] for one in done):
        of_drill = [one for one in done if one["drill"] == name]
        still = [one for one in of_drill if one.get("paused", 0) > drills.PAUSE_SECONDS]
        ran = [one for one in of_drill if one not in still]
        right, right_still = (
            f"{sum(not one['problems'] for one in part)} of {len(part)}" for part in (ran, still)
        )
        times = [_times([one[field] for one in ran if one.get(field) is not None]) for field in FIELDS]
        counts = [f"{sum(one[field] or 0 for one in ran):,}" for field in ("lost", "asked_again", "requests")]
        lines.append(f"| {name} | {right} | {right_still} | {' | '.join([*times, *counts])} |")
    return "\n".join(lines)


def _times(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else ""


if __name__ == "__main__":
    main()
