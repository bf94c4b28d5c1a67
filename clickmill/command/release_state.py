"""`clickmill release status`, `history`, `propose`, `rollback`, `freeze`, `resume`: what people say and see of a release.

They write into the journal; a running `clickmill release run` carries it out at its next step.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_facts, print_json, result, words
from clickmill.errors import UsageError

if TYPE_CHECKING:
    from clickmill.release import Decision, Freeze, Journal, Release, Split

JOURNAL = "release.jsonl"
POLICY = "policy.json"
"""What the running loop holds releases to; written by it, for the cool-down of a rollback by hand."""

SAYING = "saying.txt"
"""Reason of the running loop's last decision: what it waits for."""

Home = Annotated[Path, typer.Option(help="Folder of the release (clickmill release run --home).")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Reason, kept in the journal.")]
HOME = Path("out/release")
STALE_SECONDS = 60.0
"""Age of what the loop says from which on it is told; as that of the alert ReleaseLoopStalled."""


def status(home: Home = HOME, json: AsJson = False) -> None:
    """Show where the release stands, which bundle has which traffic, and what it is waiting for."""
    from clickmill.release import Journal

    entries = Journal(_journal(home)).entries
    last = entries[-1]
    state = last.state
    if json:
        print_json({**last.model_dump(mode="json"), "split": state.split.model_dump(), "now": _saying(home)})
        return
    freeze = state.freeze
    print_facts(
        f"{state.endpoint}: {state.phase}" + (f" at {state.percent} %" if state.percent else ""),
        {
            "since": f"{state.since:%Y-%m-%d %H:%M:%S} UTC",
            "traffic": _shares(state.split),
            "stable": state.stable,
            "candidate": state.candidate,
            "last good": state.last_good,
            "frozen": freeze and f"{_until(freeze)}, by {freeze.by}: {freeze.reason}",
            "quarantine": "\n".join(
                f"{q.bundle[:12]}  {q.at:%Y-%m-%d %H:%M}  {q.reason}" for q in state.quarantine
            )
            or None,
            "last decision": f"{last.reason} ({last.by})",
            "now": _saying(home),
        },
    )


def history(
    home: Home = HOME,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest lines to show.")] = 20,
    json: AsJson = False,
) -> None:
    """Show who did what, when and why."""
    from clickmill.release import Journal

    entries = Journal(_journal(home)).entries[-last:]
    if json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    for entry in entries:
        state = entry.state
        where = f"{state.phase}" + (f" {state.percent} %" if state.percent else "") + _held(state)
        result.print(f"[cyan]{entry.at:%Y-%m-%d %H:%M:%S}[/]  [bold]{where}[/]  {entry.by}", soft_wrap=True)
        result.print(f"    {entry.reason}", markup=False, soft_wrap=True)


def propose(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, in the model store that is served.")],
    reason: Reason,
    home: Home = HOME,
    even_quarantined: Annotated[
        bool, typer.Option("--even-quarantined", help="Accept the bundle even if it was rolled back before.")
    ] = False,
) -> None:
    """Propose a bundle as the candidate. It gets traffic step by step, as the evidence allows."""
    from clickmill import release as releases
    from clickmill.bundle import verify

    digest = verify(bundle).digest

    def decision(state: Release, now: datetime) -> Decision:
        return releases.propose(
            state, digest, now=now, by=_who(), reason=reason, even_quarantined=even_quarantined
        )

    _decide(home, decision)


def rollback(reason: Reason, home: Home = HOME) -> None:
    """Return all traffic to the last good bundle at once. The bundle that was rolled back is not released again by itself."""
    from clickmill import release as releases

    written = home / POLICY
    policy = (
        releases.ReleasePolicy.model_validate_json(written.read_bytes())
        if written.exists()
        else releases.ReleasePolicy()
    )
    _decide(home, lambda state, now: releases.roll_back(state, policy, now=now, by=_who(), reason=reason))


def freeze(
    reason: Reason,
    home: Home = HOME,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Hours after which the freeze ends by itself; default: only `resume` ends it."
        ),
    ] = None,
) -> None:
    """Freeze the release where it stands. A rollback remains possible."""
    from clickmill import release as releases

    def decision(state: Release, now: datetime) -> Decision:
        until = None if hours is None else now + timedelta(hours=hours)
        return releases.freeze(state, now=now, by=_who(), reason=reason, until=until)

    _decide(home, decision)


def resume(reason: Reason, home: Home = HOME) -> None:
    """End a freeze, or the cool-down after a rollback."""
    from clickmill import release as releases

    _decide(home, lambda state, _: releases.resume(state, by=_who(), reason=reason))


def _decide(home: Path, decision: Callable[[Release, datetime], Decision]) -> None:
    from clickmill.release import Journal

    journal: Journal = Journal(_journal(home))
    with journal.hold():
        now = datetime.now(UTC)
        made = decision(journal.state, now)
        journal.append(made, now)
    words.print(f"written: {made.next.phase}{_held(made.next)}; traffic {_shares(made.next.split)}")


def _held(state: Release) -> str:
    return "" if state.freeze is None else f", frozen {_until(state.freeze)}"


def _until(freeze: Freeze) -> str:
    return "until " + (
        "somebody resumes" if freeze.until is None else f"{freeze.until:%Y-%m-%d %H:%M:%S} UTC"
    )


def _saying(home: Path) -> str:
    path = home / SAYING
    if not path.exists():
        return "no `clickmill release run` has looked yet"
    age = time.time() - path.stat().st_mtime
    words = path.read_text()
    return words if age < STALE_SECONDS else f"nobody has looked for {age:,.0f} s; then: {words}"


def _journal(home: Path) -> Path:
    path = home / JOURNAL
    if not path.exists():
        raise UsageError(
            f"no release at {home}; begin one with `clickmill release run`, or name its folder with --home"
        )
    return path


def _shares(split: Split) -> str:
    found = [f"{share} % {bundle[:12]}" for bundle, share in split.percent.items()]
    return ", ".join(found) + (f", shadow {split.shadow[:12]}" if split.shadow else "")


def _who() -> str:
    return getpass.getuser()
