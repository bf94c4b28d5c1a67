"""A release carried out in KServe's Knative mode: one InferenceService, two revisions, `canaryTrafficPercent`. Pure.

KServe gives the newest revision `canaryTrafficPercent` and the rest to the last one that had all traffic. With 0 % for a revision that
had all traffic itself, KServe goes back to the one before it (`PropagateStatus` of 0.20): that is how a promoted bundle is taken back
without waiting for a load. A spec that names another address while the bad revision is still the last one that had all would give
it everything again, so the address changes only after KServe has gone back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickmill.release import Release
from monitoring.operator.names import BEFORE, BUNDLE
from monitoring.operator.servers import Server
from monitoring.operator.writes import Kind, Verb, Write


def plan(release: Release, home: Server, uris: Mapping[str, str]) -> list[Write]:
    """The write that brings the InferenceService nearer to the state; at most one. uris: digest to address."""
    revisions = home.revisions
    if revisions is None or not revisions.rolled_out or home.bundle is None:
        return []  # nothing has ever served, or an address by hand: reported, not fought
    wanted = release.candidate or release.stable
    if home.bundle == wanted:
        return _share(release, home)
    if release.candidate is None and revisions.percent != 0:
        return [_patch(home, {"canaryTrafficPercent": 0})]
    if revisions.percent == 0 and revisions.created == revisions.ready == revisions.rolled_out:
        return []  # KServe is about to go back to the revision before
    if revisions.percent is None and not newest_is_up(home):
        return []  # the bundle that serves is not there yet
    changes = {"canaryTrafficPercent": 0, "model": {"storageUri": uris[wanted]}}
    return [_patch(home, changes, {BUNDLE: wanted, BEFORE: revisions.created})]


def newest_is_up(home: Server) -> bool:
    """Whether the newest revision is ready, and is the one of the present spec."""
    revisions = home.revisions
    return (
        revisions is not None
        and revisions.created == revisions.ready != ""
        and revisions.created != revisions.before
    )


def carried_out(release: Release, home: Server) -> str:
    """Why traffic is not split as decided; empty when it is."""
    revisions = home.revisions
    if revisions is None or not revisions.rolled_out:
        return "the InferenceService has no revision that serves"
    if home.bundle != (release.candidate or release.stable):
        return "the InferenceService is told of another bundle"
    wanted = (release.percent or 0) if release.candidate else None
    return "" if revisions.percent == wanted else "canaryTrafficPercent is being written"


def _share(release: Release, home: Server) -> list[Write]:
    """The share of the newest revision, which has the right bundle."""
    revisions = home.revisions
    assert revisions is not None
    wanted = (release.percent or 0) if release.candidate else None
    less = wanted is not None and wanted < (100 if revisions.percent is None else revisions.percent)
    if revisions.percent == wanted or not (less or newest_is_up(home)):
        return []
    return [_patch(home, {"canaryTrafficPercent": wanted})]


def _patch(home: Server, predictor: dict[str, Any], annotations: dict[str, str] | None = None) -> Write:
    body: dict[str, Any] = {"spec": {"predictor": predictor}}
    if annotations:
        body["metadata"] = {"annotations": annotations}
    return Write(Verb.PATCH, Kind.SERVICE, home.name, body, home.version)


__all__ = ["carried_out", "newest_is_up", "plan"]
