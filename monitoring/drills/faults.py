"""What a drill does to the running system. Each function makes the fault of one kind; the catalogue puts them into sentences."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from clickmill.release import Phase
from monitoring.drills.drill import Scene
from monitoring.drills.faulty_bundles import Wrong
from monitoring.drills.timeline import Kind
from monitoring.drills.upstream import Broken, change, worst

CLICK_ODDS = 0.4
"""Of the other world: as if two of three who clicked had lost interest. Calibration ratio about 2.3."""
SECONDS = 90.0
"""Until which a step of a fault must have happened."""

Inject = Callable[[Scene], None]


def promote_faulty(wrong: Wrong) -> Inject:
    """A faulty bundle gets all traffic by hand, past the machine's checks; the good one stays warm."""

    def inject(scene: Scene) -> None:
        _promote(scene, wrong)

    return inject


def deploy_faulty(wrong: Wrong) -> Inject:
    """A faulty bundle is deployed as any other, and has to pass the release machine."""

    def inject(scene: Scene) -> None:
        digest = scene.site.offer(scene.faulty(wrong))
        scene.site.timeline.note(
            Kind.FAULT, f"a bundle that is {wrong} comes into the store", bundle=digest[:12]
        )

    return inject


def break_field(broken: Broken) -> Inject:
    """A field of every request is broken upstream."""

    def inject(scene: Scene) -> None:
        harm = worst(scene.good, broken)
        scene.site.callers.world.change = change(harm.field, broken)
        words = f"field {harm.field} is {broken} in every request; the good bundle then has {harm.ne:.2f} times its NE and predicts {harm.ratio:.2f} times the clicks"
        scene.site.timeline.note(Kind.FAULT, words)

    return inject


def lower_click_odds(scene: Scene) -> None:
    """People click less: the world has changed, not the bundle."""
    scene.site.callers.world.click_odds = CLICK_ODDS
    scene.site.timeline.note(
        Kind.FAULT, f"the odds of every click fall to {CLICK_ODDS:g} times what they were"
    )


def stall_click_log(scene: Scene) -> None:
    """The click log stops; people go on clicking."""
    scene.site.callers.world.clicks_arrive = False
    scene.site.timeline.note(Kind.FAULT, "the click log stops: no click reaches the joiner any more")


def promote_while_down(part: str, wrong: Wrong) -> Inject:
    """A part of the way of alerts is dead when a faulty bundle gets the traffic, and comes back later."""

    def inject(scene: Scene) -> None:
        site = scene.site
        site.kill(part)
        _promote(scene, wrong)
        site.until(lambda: _silence(scene), SECONDS, "call of the dead man's switch")
        # Labels of the bad bundle are in by now: were the way open, it would have been taken back.
        time.sleep(15)
        site.revive(part)

    return inject


def kill_during_rollback(scene: Scene) -> None:
    """SIGKILL to the release machine, with its router, between accepting an alert and acting on it."""
    site = scene.site
    digest = _promote(scene, Wrong.UNCALIBRATED)
    inbox = site.home / "alerts.json"
    site.until(lambda: inbox.exists() and digest[:12] in inbox.read_text(), SECONDS, "alert in the inbox")
    site.kill("release")
    state = site.release.phase
    site.timeline.note(Kind.PROCESS, f"the alert is on the disk; the journal says {state}")
    site.revive("release")


def repeat_alert(scene: Scene) -> None:
    """The alert that asks for a rollback fifty times over, resolved and told again late, and older ones about the bundle that is good."""
    site = scene.site
    digest = _promote(scene, Wrong.UNCALIBRATED)
    site.until(lambda: _serves(scene, digest), SECONDS, "answer by the bad bundle")
    start = datetime.now(UTC)
    good = site.release.last_good or ""
    past = _alert("CalibrationRatioHigh", good, start - timedelta(hours=1))
    bad = _alert("CalibrationRatioHigh", digest, start)
    # What was about the good bundle an hour ago is over, and its first telling comes last.
    answers = [site.webhook(_resolved(past)), site.webhook(past)]
    site.timeline.note(
        Kind.ALERT,
        "one alert about the bad bundle, 50 times at once and in 10 webhooks",
        name="CalibrationRatioHigh",
        action="rollback",
        bundle=digest[:12],
    )
    answers += [site.webhook(*[bad] * 50)]
    answers += [site.webhook(bad) for _ in range(9)]
    site.until(lambda: site.release.phase is Phase.ROLLED_BACK, SECONDS, "rollback")
    answers += [site.webhook(_resolved(bad)), site.webhook(bad), site.webhook(past)]
    site.timeline.note(
        Kind.FAULT,
        f"the same alert resolved, and told again late; 13 webhooks, all answered {sorted(set(answers))}",
    )


def alert_about_two_bundles(scene: Scene) -> None:
    """A bundle that is wrong in two ways serves while another is under way: alerts about both, in one webhook."""
    site = scene.site
    digest = _promote(scene, Wrong.HOPELESS)
    site.until(lambda: _serves(scene, digest), SECONDS, "answer by the bad bundle")
    candidate = site.offer(scene.faulty(Wrong.INVERTED))
    site.until(lambda: site.release.candidate == candidate, SECONDS, "candidate")
    site.timeline.note(Kind.FAULT, "meanwhile another bundle, inverted, is under way", bundle=candidate[:12])
    now = datetime.now(UTC)
    alerts = [
        _alert("NormalizedEntropyHigh", candidate, now),
        _alert("CalibrationRatioHigh", digest, now),
        _alert("NormalizedEntropyHigh", digest, now),
    ]
    site.timeline.note(
        Kind.ALERT,
        "alerts about both bundles, in one webhook",
        name="CalibrationRatioHigh",
        action="rollback",
        bundle=digest[:12],
    )
    site.webhook(*alerts)


def _promote(scene: Scene, wrong: Wrong) -> str:
    digest = scene.site.promote(scene.faulty(wrong), f"a bundle that is {wrong}")
    scene.site.timeline.note(
        Kind.FAULT, f"a bundle that is {wrong} gets all traffic, past the checks", bundle=digest[:12]
    )
    return digest


def _serves(scene: Scene, digest: str) -> bool:
    answers = scene.site.timeline.answers
    return bool(answers) and answers[-1].bundle == digest


def _silence(scene: Scene) -> bool:
    return bool(scene.site.timeline.of(Kind.SILENCE))


def _alert(name: str, bundle: str, start: datetime) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {
            "alertname": name,
            "action": "rollback",
            "bundle": bundle[:12],
            "severity": "critical",
            "subject": "quality",
        },
        "annotations": {"summary": f"Bundle {bundle[:12]}: told by the drill"},
        "startsAt": start.isoformat(),
        "fingerprint": f"{name}-{bundle[:12]}",
    }


def _resolved(alert: dict[str, Any]) -> dict[str, Any]:
    return alert | {"status": "resolved"}


__all__ = [
    "alert_about_two_bundles",
    "break_field",
    "deploy_faulty",
    "kill_during_rollback",
    "lower_click_odds",
    "promote_faulty",
    "promote_while_down",
    "repeat_alert",
    "stall_click_log",
]
