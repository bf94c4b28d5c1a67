"""A/A soak: a bundle that predicts what the good one predicts is released, promoted and watched. There must be no rollback, and no alert for one.

    python tests/bench/soak.py --minutes 30 --out out/soak

The whole system of a drill (servers, router, callers who click, joiner, Prometheus, Alertmanager) for half an hour of its time; waiting times
of the rules are 1/120, so that their `for` is passed as often as in two and a half days.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path

from monitoring import drills
from monitoring.drills.faulty_bundles import Wrong
from monitoring.drills.run import faulty_bundle
from monitoring.drills.site import Site

POLICY = {"steps": "[5,50,100]", "step_seconds": "30"}
"""1 % of 40 requests a second is too little to stand for anything in half an hour."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    parser.add_argument("--contract", type=Path, default=Path("contracts/world.yaml"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    made = given.out / "made"
    made.mkdir(parents=True, exist_ok=True)
    good = drills.good_bundle(made, given.contract, print)
    equal = faulty_bundle(good, Wrong.NOTHING, made, print)
    shutil.rmtree(given.out / "site", ignore_errors=True)
    site = Site(
        given.out / "site",
        good,
        seed=given.seed,
        policy=POLICY,
        seen=lambda event: print(_line(event), flush=True),
    )
    with site:
        start = time.time()
        offered = site.offer(equal)
        site.hold(60 * given.minutes)
        last = site.release
    answers = site.timeline.answers
    decisions = [event.name for event in site.timeline.of(drills.Kind.DECISION)]
    alerts = Counter((event.name, event.action) for event in site.timeline.of(drills.Kind.ALERT, since=start))
    summary = {
        "minutes": round((time.time() - start) / 60, 1),
        "rollbacks": decisions.count("rolled_back"),
        "decisions": dict(Counter(decisions)),
        "promoted": last.stable == offered,
        "alerts": {f"{name} ({action})": n for (name, action), n in alerts.items()},
        "requests": len(answers),
        "impressions": sum(answer.impressions for answer in answers),
        "lost": sum(answer.status != 200 for answer in answers),
        "asked again": sum(answer.tries > 1 for answer in answers),
    }
    (given.out / "soak.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


def _line(event: drills.Event) -> str:
    return f"{time.strftime('%H:%M:%S', time.gmtime(event.at))} {event.kind:<9} {event.words[:300]}"


if __name__ == "__main__":
    main()
