"""One drill from start to end: the system comes up, the fault goes in, what must happen is waited for and must then hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clickmill import bundle as bundles
from clickmill.bundle import Store
from clickmill.data.world import WorldConfig, write
from clickmill.release import Entry
from monitoring.drills.drill import Drill, Scene
from monitoring.drills.faulty_bundles import Wrong
from monitoring.drills.outcome import Outcome, judge, settled
from monitoring.drills.processes import DrillFailed, clickmill, installed
from monitoring.drills.site import Site
from monitoring.drills.timeline import Event, Kind, Timeline

IMPRESSIONS, CLICK_RATE = 60_000, 0.12
"""Of the market that the drill's own bundle is trained on: enough for a linear model to be sound, and clicks enough to judge within half a minute."""

PROGRAMS = ("prometheus", "prometheus-alertmanager")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Drilled:
    """A drill that ran."""

    drill: Drill
    outcome: Outcome
    timeline: Timeline
    entries: tuple[Entry, ...]
    """Of the journal."""
    good: str
    """Digest of the bundle that served at first."""
    started_at: float
    """Unix time at which the fault was begun."""
    missing: tuple[str, ...] = ()
    """Programs that were not installed, so that no alert was evaluated."""


def good_bundle(cache: Path, contract: Path, say: Say) -> Path:
    """A bundle trained on a small simulated market (40 s), once per cache. Raises DrillFailed with what the pipeline said."""
    found = Store(cache / "run" / "store").latest()
    if found is not None:
        return found
    say("training a small bundle on a simulated market (once, about 40 s)")
    world = cache / "world"
    write(WorldConfig(impressions=IMPRESSIONS, target_ctr=CLICK_RATE, seed=0), world)
    command = clickmill(
        "run", str(world / "impressions"), "--clicks", str(world / "clicks"), "--contract", str(contract),
        "--models", "lr", "--workspace", str(cache / "run"), "--set", "gate.max_calibration_bias=0.25",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = Store(cache / "run" / "store").latest()
    if found is None:
        raise DrillFailed(
            f"the pipeline made no bundle (exit status {done.returncode}):\n{done.stderr[-2000:]}"
        )
    return found


def faulty_bundle(good: Path, wrong: Wrong, cache: Path, say: Say) -> Path:
    """A faulty copy of `good`, made once per cache in a process of its own, since TensorFlow would stay in ours."""
    digest = bundles.verify(good).digest
    out = cache / "faulty" / digest[:12] / wrong
    if not out.exists():
        say(f"making a bundle that is {wrong}")
        out.parent.mkdir(parents=True, exist_ok=True)
        program = (
            "import sys; from pathlib import Path; from monitoring.drills.faulty_bundles import Wrong, make; "
        )
        program += "make(Path(sys.argv[1]), Wrong(sys.argv[2]), Path(sys.argv[3]))"
        done = subprocess.run(
            [sys.executable, "-c", program, str(good), wrong, str(out)],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )  # fmt: skip
        if done.returncode:
            raise DrillFailed(f"no bundle that is {wrong} could be made:\n{done.stderr[-2000:]}")
    return out


def run(
    drill: Drill,
    good: Path,
    cache: Path,
    folder: Path,
    *,
    say: Say,
    seen: Callable[[Event], None] = lambda event: None,
    seed: int = 0,
) -> Drilled:
    """Carry a drill out in `folder` (absent or empty). say: what is being done. seen: each event, as it comes.

    Without Prometheus or Alertmanager there are no alerts, and the release machine has only its own checks. Raises DrillFailed for a drill
    that is about alerts then, and when the system under it does not come up; a fault that is not dealt with is an outcome, not an error.
    """
    missing = missing_programs()
    if missing and drill.needs_alerts:
        raise DrillFailed(f"{drill.name} needs the alerts: {_not_found(missing)}")
    if missing:
        say(
            f"{_not_found(missing)}; no rule is evaluated and nobody is told, the release machine has only its own checks"
        )
    made = {wrong: faulty_bundle(good, wrong, cache, say) for wrong in drill.bundles}
    say(
        f"starting the system: release machine, router, server, live quality, {'' if missing else 'Prometheus, Alertmanager, '}callers"
    )
    site = Site(folder, good, seed=seed, seen=seen, alerting=not missing)
    with site:
        return replace(carry_out(drill, Scene(site, good, made.__getitem__)), missing=missing)


def missing_programs() -> tuple[str, ...]:
    """Of those that evaluate the rules, the ones that are not on the PATH."""
    return tuple(program for program in PROGRAMS if not installed(program))


def _not_found(missing: Sequence[str]) -> str:
    return f"{' and '.join(missing)} not found on the PATH (Debian: apt-get install prometheus prometheus-alertmanager)"


def carry_out(drill: Drill, scene: Scene) -> Drilled:
    """Put the fault into a system that runs, wait for what must happen, see that it holds, and judge."""
    site = scene.site
    good = site.release.stable
    fault = time.time()
    site.timeline.longest_pause = 0.0
    drill.inject(scene)
    deadline = time.time() + drill.seconds
    while not (come := settled(drill, site.timeline, site.journal.entries, fault)) and time.time() < deadline:
        site.check()
        time.sleep(0.1)
    if come:
        site.hold(drill.watch_seconds)
    entries = site.journal.entries
    outcome = judge(drill, site.timeline, entries, good, fault)
    words = "as expected" if outcome.as_expected else "NOT as expected: " + "; ".join(outcome.problems)
    site.timeline.note(Kind.VERDICT, words)
    return Drilled(drill, outcome, site.timeline, tuple(entries), good, fault)


__all__ = ["Drilled", "carry_out", "faulty_bundle", "good_bundle", "missing_programs", "run"]
