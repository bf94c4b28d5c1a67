"""The loop of a release: look, decide, write down, carry out. One step is one call; who calls it and when is the process's business."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from clickmill.errors import ClickmillError
from clickmill.release import (
    MACHINE,
    Alert,
    Arm,
    Compared,
    Decision,
    Evidence,
    Journal,
    Labelled,
    Period,
    Phase,
    Release,
    ReleasePolicy,
    Shadowed,
    Smoke,
    Target,
    TargetFailed,
    Traffic,
    Watched,
    decide,
    propose,
)
from clickmill.release.release import UNDER_WAY
from monitoring.live import LabelJoin, Quality, quality
from monitoring.release.alerts import with_full_digests
from monitoring.release.inbox import Inbox
from monitoring.release.observations import Observations, Spell

log = logging.getLogger(__name__)

COMPARED = timedelta(hours=6)
"""Of a promoted bundle's labels beside the last good bundle's, at most: what it was like last week says nothing of today."""
ANEW = 0.01
"""Share of that time after which the two are compared anew: at first with every step, later every few minutes, since a click more
changes nothing then."""


class Runner:
    """Of one endpoint. Level-triggered: the journal says what should be, every step carries it out again, so a restart needs no memory."""

    def __init__(
        self,
        journal: Journal,
        observations: Observations,
        target: Target,
        policy: ReleasePolicy,
        *,
        inbox: Inbox | None = None,
        joined: LabelJoin | None = None,
        logs: tuple[Path, Path] | None = None,
    ) -> None:
        """joined, logs: live quality and its folders (predictions, clicks); without them no label ever comes, and checks on clicks stay
        UNKNOWN."""
        self._journal, self._observations, self._target, self._policy = (
            journal,
            observations,
            target,
            policy,
        )
        self._inbox, self._joined, self._logs = inbox, joined, logs
        self._complaint = ""
        self._compared: tuple[tuple[str, str, datetime], datetime, Compared] | None = None
        self.quality: Mapping[str, Quality] = {}
        """By bundle, over the shortest window, at the last step."""
        self.saying = ""
        """Reason of the last decision, with the numbers and what is waited for; the journal has only those that changed something."""

    def step(self, now: datetime) -> Decision:
        """Look, decide, write down, carry out. The decision is on the disk before anything is carried out."""
        if self._joined is not None and self._logs is not None:
            self._joined.ingest(*self._logs, now)
            self.quality = self._look(self._joined, now)
        with self._journal.hold():
            release = self._journal.state
            epoch, seen = self._target.seen()
            if release.phase is Phase.SMOKE and self._observations.smoke is None:
                self._look_at_the_candidate(release)
            self._observations.note(release, epoch, seen, now)
            decision = decide(release, self._evidence(release, now), self._policy, now)
            if self._journal.append(decision, now):
                log.info("%s: %s", decision.next.phase, decision.reason)
        self.saying = decision.reason
        self._carry_out(decision.next)
        return decision

    def offer(self, bundle: str, now: datetime) -> bool:
        """Propose a bundle that came, say into the model store, unless it had its turn or another has. True when it was proposed."""
        with self._journal.hold():
            entries = self._journal.entries
            release = entries[-1].state
            known = {entry.state.stable for entry in entries} | {entry.state.candidate for entry in entries}
            if bundle in known or release.phase in UNDER_WAY:
                return False
            decision = propose(release, bundle, now=now, by=MACHINE, reason="a new bundle came")
            return self._journal.append(decision, now)

    def _look(self, joined: LabelJoin, now: datetime) -> dict[str, Quality]:
        until = joined.ripe(now)
        since = until - timedelta(seconds=min(joined.settings.windows_seconds))
        found = joined.labelled(since, until, slices=False)
        return {slice_.bundle: quality(slice_.labelled, slice_.scores) for slice_ in found}

    def _carry_out(self, release: Release) -> None:
        try:
            self._target.carry_out(release.split)
        except TargetFailed as error:
            if str(error) != self._complaint:  # not once a second for as long as it lasts
                log.warning("%s", error)
            self._complaint = str(error)
            if release.phase is Phase.SMOKE and error.bundle == release.candidate:
                self._observations.keep_smoke(Smoke(passed=False, words=str(error)))
        else:
            self._complaint = ""

    def _look_at_the_candidate(self, release: Release) -> None:
        assert release.candidate is not None
        try:
            smoke = self._target.smoke(release.candidate)
        except ClickmillError as error:
            smoke = Smoke(passed=False, words=str(error))
        if smoke is not None:
            self._observations.keep_smoke(smoke)

    def _evidence(self, release: Release, now: datetime) -> Evidence:
        spells = self._observations.spells
        watched = [spell for spell in spells if spell.phase not in UNDER_WAY]
        return Evidence(
            smoke=self._observations.smoke,
            shadow=tuple(
                self._shadowed(release, spell, now) for spell in spells if spell.phase is Phase.SHADOW
            ),
            canary=tuple(
                self._period(release, spell, now) for spell in spells if spell.phase is Phase.CANARY
            ),
            watch=tuple(
                Watched(
                    traffic=spell.live.get(release.stable, Traffic()),
                    paired=spell.paired.get(release.stable),
                )
                for spell in watched
            ),
            compared=self._beside_the_last_good(release, now),
            alerts=self._alerts(release),
        )

    def _beside_the_last_good(self, release: Release, now: datetime) -> Compared | None:
        """Labels of the promoted bundle and of the last good one on the same impressions, as far as they can be judged by now."""
        if self._joined is None or release.phase in UNDER_WAY or release.last_good is None:
            return None
        until = self._joined.ripe(now)
        since = max(release.since, until - COMPARED)
        if until <= since:
            return None
        about = (release.stable, release.last_good, release.since)
        if (
            self._compared is None
            or self._compared[0] != about
            or until - self._compared[1] >= ANEW * (until - since)
        ):
            found = self._joined.compared(release.stable, release.last_good, since, until)
            self._compared = (about, until, found)
        return self._compared[2]

    def _period(self, release: Release, spell: Spell, now: datetime) -> Period:
        labelled = self._labelled(spell, now)
        candidate = str(release.candidate)
        return Period(
            percent=spell.percent or 1,
            candidate=_arm(spell, labelled, candidate),
            stable=_arm(spell, labelled, release.stable),
        )

    def _shadowed(self, release: Release, spell: Spell, now: datetime) -> Shadowed:
        candidate = str(release.candidate)
        total = squares = 0.0
        if self._joined is not None:
            until = min(spell.until, self._joined.ripe(now))
            if until > spell.since:
                total, squares = self._joined.differences(candidate, release.stable, spell.since, until)
        labelled = self._labelled(spell, now)
        return Shadowed(
            traffic=spell.shadow.get(candidate, Traffic()),
            labelled=labelled.get(candidate, Labelled()),
            stable=_arm(spell, labelled, release.stable),
            difference=total,
            difference_squares=squares,
        )

    def _labelled(self, spell: Spell, now: datetime) -> dict[str, Labelled]:
        """By bundle, of the spell's predictions whose attribution window is over."""
        if self._joined is None:
            return {}
        until = min(spell.until, self._joined.ripe(now))
        if until <= spell.since:
            return {}
        return self._joined.by_bundle(spell.since, until)

    def _alerts(self, release: Release) -> tuple[Alert, ...]:
        if self._inbox is None:
            return ()
        known = (release.candidate, release.stable, release.last_good)
        return with_full_digests(self._inbox.firing, known)


def _arm(spell: Spell, labelled: dict[str, Labelled], bundle: str) -> Arm:
    return Arm(
        traffic=spell.live.get(bundle, Traffic()),
        labelled=labelled.get(bundle, Labelled()),
    )


__all__ = ["Runner"]
