"""The page of a drill: one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2

from monitoring.drills.outcome import ALERT_TO_STABLE_SECONDS, FAULT_TO_RESTORED_SECONDS, PAUSE_SECONDS
from monitoring.drills.plot import picture
from monitoring.drills.run import Drilled
from monitoring.drills.shortened_rules import ATTRIBUTION_SECONDS, FACTOR, LATENESS_SECONDS, PROMISE_SECONDS


def write_page(drilled: Drilled, path: Path) -> Path:
    """Write it; returns `path`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("monitoring.drills", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    zero = drilled.started_at
    outcome, drill = drilled.outcome, drilled.drill
    page = environment.get_template("drill.html.j2").render(
        css=files("clickmill.bundle").joinpath("templates/card.css").read_text(),
        drill=drill,
        outcome=outcome,
        tiles=_tiles(drilled),
        events=[
            {
                "after": f"{event.at - zero:+.1f}",
                "clock": f"{datetime.fromtimestamp(event.at, UTC):%H:%M:%S}",
                "kind": event.kind,
                "words": event.words,
            }
            for event in sorted(drilled.timeline.events, key=lambda event: event.at)
        ],
        picture="data:image/svg+xml;base64," + base64.b64encode(picture(drilled)).decode(),
        missing=" and ".join(drilled.missing),
        hurry=(
            f"Waiting times of the rules are {FACTOR:g} times as short as in production, impressions are judged after "
            f"{ATTRIBUTION_SECONDS + LATENESS_SECONDS:g} s instead of 35 min, and an answer counts as slow from {1e3 * PROMISE_SECONDS:g} ms on instead of 10, "
            "since one machine does it all here. Scrapes, rules and steps of the release machine are a second apart."
        ),
        at=f"{datetime.fromtimestamp(zero, UTC):%Y-%m-%d %H:%M UTC}",
    )
    path.write_text(page)
    return path


def _tiles(drilled: Drilled) -> list[dict[str, str]]:
    outcome, drill = drilled.outcome, drilled.drill
    tiles = [_tile("requests lost", f"{outcome.lost}", f"of {outcome.requests:,}", "0", outcome.lost == 0)]
    if outcome.asked_again:
        tiles.append(
            _tile("asked again by callers", f"{outcome.asked_again:,}", "no connection at first", "", True)
        )
    if outcome.alert_to_stable is not None:
        seconds = outcome.alert_to_stable
        goal = f"< {ALERT_TO_STABLE_SECONDS:g} s"
        tiles.append(
            _tile(
                "alert to all on stable",
                f"{seconds:.1f} s",
                "last answer of the other bundle",
                goal,
                seconds < ALERT_TO_STABLE_SECONDS,
            )
        )
    if outcome.fault_to_restored is not None:
        seconds = outcome.fault_to_restored
        goal = f"< {FAULT_TO_RESTORED_SECONDS:g} s" if drill.serving else ""
        words = (
            ""
            if drill.serving
            else f"of them {ATTRIBUTION_SECONDS + LATENESS_SECONDS:g} s until the first click counts"
        )
        tiles.append(
            _tile("fault to restored", f"{seconds:.1f} s", words, goal, seconds < FAULT_TO_RESTORED_SECONDS)
        )
    if outcome.fault_to_told is not None and outcome.restored_at is None:
        tiles.append(_tile("fault to people told", f"{outcome.fault_to_told:.1f} s", "", "", True))
    if outcome.paused > PAUSE_SECONDS:
        words = "the machine was tried, not only the fault"
        tiles.append(_tile("machine stood still", f"{outcome.paused:.1f} s", words, "", True))
    return tiles


def _tile(name: str, value: str, words: str, goal: str, met: bool) -> dict[str, str]:
    return {"name": name, "value": value, "words": words, "goal": goal, "met": "met" if met else "missed"}


__all__ = ["write_page"]
