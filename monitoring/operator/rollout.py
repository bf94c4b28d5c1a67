"""How a release is carried out in either deployment mode of KServe: Standard by routes and InferenceServices, Knative by revisions. Pure."""

from __future__ import annotations

from datetime import datetime

from clickmill.release import Alert, Phase, Release
from clickmill.release.release import UNDER_WAY
from monitoring.operator import knative, standard
from monitoring.operator.resource import Mode, ModelReleaseSpec
from monitoring.operator.standard import Observed
from monitoring.operator.status import Status
from monitoring.operator.writes import Write
from monitoring.release.alerts import with_full_digests


def plan(
    release: Release, status: Status, observed: Observed, spec: ModelReleaseSpec, now: datetime
) -> list[Write]:
    """Writes that bring the world nearer to the state; none when it is there."""
    if spec.target.mode is Mode.KNATIVE or spec.target.route is None:
        return knative.plan(release, observed.home, status.uris)
    return standard.plan(
        release.split,
        observed,
        status.uris,
        spec.target.route,
        state=f"{release.phase} {release.since.isoformat()}",
        back=release.phase is Phase.ROLLED_BACK,
        now=now,
    )


def noted(status: Status, observed: Observed) -> Status:
    """With what home has been seen to serve from all of its pods."""
    home = observed.home
    if home.bundle is None or not (home.available and home.complete) or status.home == home.bundle:
        return status
    return status.model_copy(update={"home": home.bundle})


def edits(observed: Observed) -> str:
    """What somebody changed by hand, in words; empty when nothing."""
    return standard.edits(observed)


def undone(release: Release, observed: Observed, mode: Mode) -> str:
    """Why traffic is not split as decided; empty when it is."""
    if mode is Mode.KNATIVE:
        return knative.carried_out(release, observed.home)
    return standard.carried_out(release.split, observed)


def up(bundle: str, observed: Observed) -> bool:
    """Whether a server of the bundle is ready."""
    home = observed.home
    if home.revisions is not None and home.revisions.created and home.bundle == bundle:
        return knative.newest_is_up(home)
    return any(observed.ready(each) for each in observed.servers if each.bundle == bundle)


def alerts(status: Status, observed: Observed, ready_seconds: int, now: datetime) -> tuple[Alert, ...]:
    """Those of Alertmanager, and one of our own about a candidate whose pods are gone: it would get no traffic and wait for ever."""
    release = status.state
    known = (release.candidate, release.stable, release.last_good)
    found = with_full_digests(status.alerts.firing.values(), known)
    if release.phase not in UNDER_WAY or release.phase in (Phase.CANDIDATE, Phase.SMOKE):
        return found
    for each in observed.servers:
        if each.bundle != release.candidate or each.available or each.away_since is None:
            continue
        away = (now - each.away_since).total_seconds()
        if away >= ready_seconds:
            words = f"{each.name} is not ready; {ready_seconds} s are allowed"
            gone = Alert(name="CandidateGone", fingerprint=each.name, bundle=release.candidate, summary=words)
            return (*found, gone)
    return found


def alone_at_home(release: Release, observed: Observed) -> bool:
    """Whether home serves the stable bundle, and nothing is beside it."""
    home = observed.home
    told = home.revisions is not None and home.revisions.percent is not None
    return home.bundle == release.stable and not observed.others and not told


__all__ = ["alerts", "alone_at_home", "edits", "noted", "plan", "undone", "up"]
