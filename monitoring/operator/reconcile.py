"""What the operator does next for one ModelRelease: the state of the world in, the next status and the writes out. Pure.

Called after every interval and every change, with all that is known. Nothing is remembered between two calls but what is in the
status: killed anywhere, the next call goes on. A decision is in the status before it is carried out; where both are due, the status
is written first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clickmill.release import (
    Decision,
    Evidence,
    Phase,
    Release,
    Smoke,
    decide,
    freeze,
    propose,
    resume,
    roll_back,
    withdraw,
)
from clickmill.release.release import UNDER_WAY
from monitoring.operator import rollout
from monitoring.operator.conditions import conditions
from monitoring.operator.names import BUNDLE, FINALIZER, SPEC
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.standard import Observed
from monitoring.operator.status import Status
from monitoring.operator.writes import Kind, Notice, Verb, Write


@dataclass(frozen=True)
class World:
    """All that is known of a ModelRelease when it is looked at."""

    name: str
    generation: int
    finalizers: tuple[str, ...]
    leaving: bool
    """Somebody deleted it, and it waits for its finalizer."""
    version: str
    """resourceVersion."""
    spec: ModelReleaseSpec
    status: Status
    observed: Observed | None
    """InferenceServices and route; None: the InferenceService is not there."""
    evidence: Evidence
    """From Prometheus; `alerts` and `smoke` of it are left empty: they are known here."""
    served: frozenset[str]
    """Digests that endpoints report to serve."""
    evidence_error: str = ""
    """Why there is no evidence."""
    taken_by: str = ""
    """Another ModelRelease that has the InferenceService already."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order: status (when it changed), notices, writes."""

    status: Status
    writes: tuple[Write, ...] = ()
    notices: tuple[Notice, ...] = ()
    changed: bool = field(default=False)
    """Whether the status is to be written."""


def reconcile(world: World, now: datetime) -> Plan:
    """What is next. Same arguments, same answer."""
    if world.leaving:
        return _leave(world, now)
    if world.taken_by:
        words = f"{world.spec.target.inference_service} belongs to the older ModelRelease {world.taken_by}; delete one of the two"
        return _plan(world, world.status, (), ("TargetTaken", words), now)
    if FINALIZER not in world.finalizers:
        metadata = {"finalizers": [*world.finalizers, FINALIZER]}
        write = Write(Verb.PATCH, Kind.RELEASE, world.name, {"metadata": metadata}, world.version)
        return Plan(world.status, (write,))
    status, trouble = _adopt(world, now)
    if status.release is None or world.observed is None:
        return _plan(world, status, (), trouble, now)
    observed = world.observed
    status, trouble = _name(world, status)
    edited = rollout.edits(observed)
    decision = _wish(world, status, now) if not trouble else None
    if decision is None:
        status = _with_smoke(world, status, observed, now)
        decision = decide(status.state, _evidence(world, status, observed, now), world.spec.policy, now)
        hold = edited or rollout.undone(status.state, observed, world.spec.target.mode)
        if hold and _goes_forward(status.state, decision.next):
            decision = Decision(next=status.state, reason=f"waits: {hold}")
    notices: tuple[Notice, ...] = ()
    if decision.next != status.state:
        if decision.next.phase is Phase.CANDIDATE:
            status = status.model_copy(update={"proposed_generation": world.generation})
        status = status.with_decision(decision, now)
        notices = (_notice(decision),)
    else:
        status = status.told(decision.reason, now)
    status = rollout.noted(status, observed)
    writes = rollout.plan(status.state, status, observed, world.spec, now)
    return _plan(world, status, tuple(writes), trouble, now, notices)


def _plan(
    world: World,
    status: Status,
    writes: tuple[Write, ...],
    trouble: tuple[str, str] | None,
    now: datetime,
    notices: tuple[Notice, ...] = (),
) -> Plan:
    status = status.model_copy(update={"observed_generation": world.generation})
    status = status.with_conditions(
        conditions(status, world.spec, world.observed, trouble, world.evidence_error, now, world.generation)
    )
    changed = status.for_storage() != world.status.for_storage()
    return Plan(status if changed else world.status, writes, notices, changed)


def _adopt(world: World, now: datetime) -> tuple[Status, tuple[str, str] | None]:
    """With a first state: what the InferenceService serves is trusted. (reason, words) where that can't be known."""
    status, target = world.status, world.spec.target
    if world.observed is None:
        words = f"there is no InferenceService {target.inference_service}; make it first, it says how the endpoint runs"
        return status, ("TargetMissing", words)
    if status.release is not None:
        return status, None
    home = world.observed.template
    uri = home["spec"]["predictor"].get("model", {}).get("storageUri", "")
    if not uri:
        words = (
            f"{target.inference_service} has no spec.predictor.model.storageUri, which releases are made of"
        )
        return status, ("TargetUnfit", words)
    told = (home["metadata"].get("annotations") or {}).get(BUNDLE)
    digest = world.spec.bundle.digest if uri == world.spec.bundle.uri else told
    if digest is None:
        words = (
            f"which bundle is at {uri}? Tell it: kubectl annotate inferenceservice {target.inference_service} "
            f"{BUNDLE}=DIGEST"
        )
        return status, ("StableUnknown", words)
    release = Release.first(target.inference_service, digest, now)
    status = status.model_copy(update={"uris": {**status.uris, digest: uri}})
    decision = Decision(next=release, reason=f"found serving {uri}")
    return status.with_decision(decision, now), None


def _name(world: World, status: Status) -> tuple[Status, tuple[str, str] | None]:
    """With the address of the spec's bundle, and without those that nobody needs."""
    bundle, release = world.spec.bundle, status.state
    needed = {bundle.digest, release.stable, release.candidate, release.last_good}
    for server in () if world.observed is None else world.observed.servers:
        needed.add(server.bundle)
    uris = {digest: uri for digest, uri in status.uris.items() if digest in needed}
    taken = next(
        (digest for digest, uri in uris.items() if uri == bundle.uri and digest != bundle.digest), None
    )
    if taken is not None:
        words = f"{bundle.uri} is the address of bundle {taken[:12]}, which may have to serve again; put this one elsewhere"
        return status.model_copy(update={"uris": uris}), ("AddressTaken", words)
    moved = uris.get(bundle.digest, bundle.uri)
    if moved != bundle.uri:
        words = f"bundle {bundle.digest[:12]} serves from {moved}; the same bundle from {bundle.uri} is not released anew"
        return status.model_copy(update={"uris": uris}), ("AddressChanged", words)
    return status.model_copy(update={"uris": {**uris, bundle.digest: bundle.uri}}), None


def _wish(world: World, status: Status, now: datetime) -> Decision | None:
    """What a person wrote into the spec and is not so yet."""
    spec, release = world.spec, status.state
    taken = spec.rollback
    if taken is not None and taken.digest in (release.candidate, release.stable):
        both = release.phase in UNDER_WAY and taken.digest == release.stable
        if both:
            return withdraw(
                release, now=now, by=SPEC, reason=f"the bundle that serves is to go: {taken.reason}"
            )
        if release.phase in UNDER_WAY or release.last_good is not None:
            return roll_back(release, spec.policy, now=now, by=SPEC, reason=taken.reason)
    held = spec.freeze
    if held is not None and (held.until is None or now < held.until):
        mine = freeze(release, now=now, by=SPEC, reason=held.reason, until=held.until)
        if release.freeze is None or (release.freeze.by == SPEC and mine.next != release):
            return mine
    elif release.freeze is not None and release.freeze.by == SPEC:
        return resume(release, by=SPEC, reason="spec.freeze is gone")
    wanted = spec.bundle.digest
    if wanted in (release.candidate, release.stable):
        if wanted == release.stable and release.candidate is not None:
            return withdraw(release, now=now, by=SPEC, reason="the spec names the bundle that serves already")
        return None
    banned = release.banned(wanted) is not None
    again = spec.bundle.even_quarantined and world.generation > status.proposed_generation
    if banned and not again:
        return None
    if release.candidate is not None:
        return withdraw(release, now=now, by=SPEC, reason=f"the spec names bundle {wanted[:12]} instead")
    reason = f"generation {world.generation} of the spec names it"
    return propose(release, wanted, now=now, by=SPEC, reason=reason, even_quarantined=again)


def _goes_forward(release: Release, following: Release) -> bool:
    """Whether it is a step up, which must not begin before the step it comes from is in place."""
    if release.phase not in UNDER_WAY or following.phase is Phase.ROLLED_BACK:
        return False
    return (following.phase, following.percent) != (release.phase, release.percent)


def _with_smoke(world: World, status: Status, observed: Observed, now: datetime) -> Status:
    """The smoke test, once it has an outcome: pods are ready only after they replayed the golden predictions, and report whose they are."""
    release = status.state
    if release.phase is not Phase.SMOKE or status.smoke is not None or release.candidate is None:
        return status
    up = rollout.up(release.candidate, observed)
    if up and release.candidate in world.served:
        words = "its pods are ready, which they are once their golden predictions came back, and report its digest"
        return status.model_copy(update={"smoke": Smoke(passed=True, words=words)})
    if (now - release.since).total_seconds() < world.spec.target.ready_seconds:
        return status
    what = "its pods are ready, but no endpoint reports its digest" if up else "its pods are not ready"
    words = f"{what} after {world.spec.target.ready_seconds} s"
    return status.model_copy(update={"smoke": Smoke(passed=False, words=words)})


def _evidence(world: World, status: Status, observed: Observed, now: datetime) -> Evidence:
    alerts = rollout.alerts(status, observed, world.spec.target.ready_seconds, now)
    return world.evidence.model_copy(update={"smoke": status.smoke, "alerts": alerts})


def _leave(world: World, now: datetime) -> Plan:
    """The bundle that serves comes home, the rest goes, and only then the finalizer. A route stays, with all traffic for home."""
    status = world.status
    if FINALIZER not in world.finalizers:
        return Plan(status)
    observed = world.observed
    if status.release is not None and observed is not None and not world.taken_by:
        if status.release.candidate is not None:
            decision = withdraw(status.state, now=now, by=SPEC, reason="the ModelRelease is being deleted")
            status = status.with_decision(decision, now)
        # Nothing stays warm: there will be nobody to go back.
        alone = status.state.model_copy(update={"last_good": None})
        status = rollout.noted(status, observed)
        writes = rollout.plan(alone, status, observed, world.spec, now)
        if writes or not rollout.alone_at_home(alone, observed):
            return _plan(world, status, tuple(writes), None, now)
    metadata: Mapping[str, Any] = {"finalizers": [each for each in world.finalizers if each != FINALIZER]}
    return Plan(
        world.status,
        (Write(Verb.PATCH, Kind.RELEASE, world.name, {"metadata": dict(metadata)}, world.version),),
    )


def _notice(decision: Decision) -> Notice:
    state = decision.next
    where = f"{state.phase} at {state.percent} %" if state.percent else str(state.phase)
    return Notice(
        reason="".join(part.capitalize() for part in state.phase.split("_")),
        message=f"{where}, by {decision.by}: {decision.reason}"[:1000],
        warning=state.phase is Phase.ROLLED_BACK,
    )


__all__ = ["Plan", "World", "reconcile"]
