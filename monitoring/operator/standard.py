"""A split carried out in KServe's Standard mode: which InferenceServices there must be, and what the route says. Pure.

Home is the InferenceService of the spec; further bundles have one beside it. Laws, each a property test:

- a Service gets a share only when its pods answer and all of them have the bundle that the share is for;
- nothing is deleted, and home is not told to load another bundle, while the route may still send to it;
- the last one that answers is never deleted;
- what was edited by hand is left as it is, but for a rollback, which is written once.

Home comes to the bundle that was promoted only after the one before it is warm beside it, so a rollback never waits for a load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clickmill.release import Split
from monitoring.operator import routes, servers
from monitoring.operator.names import BUNDLE
from monitoring.operator.resource import Carrier, Route
from monitoring.operator.routes import SeenRoute
from monitoring.operator.servers import Server
from monitoring.operator.writes import Kind, Verb, Write

MOVE = 25
"""Percent of the traffic that moves at once between two servers of one bundle: the one that takes it over has few pods at first."""


@dataclass(frozen=True)
class Observed:
    """The observed state: InferenceServices, route and Services of one release, as the API server has them. In Knative mode there is `home` only."""

    home: Server
    """The InferenceService of the spec."""
    home_bundle: str | None
    """Digest of the bundle that all pods of home were last seen to have."""
    others: tuple[Server, ...]
    """Those beside it."""
    route: SeenRoute | None
    entry: str
    """`predictor` or `transformer`: the end of the name of the Service that callers enter by."""
    template: Mapping[str, Any]
    """Home as the API gives it."""
    owner: Mapping[str, Any]
    """Name and uid of the ModelRelease."""
    pods: Mapping[str, Any] | None = None
    """Home's Service of the predictor's pods, where a ranker asks by it."""
    others_pods: tuple[str, ...] = ()
    """Names of such Services beside it."""

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them, home first."""
        return (self.home, *self.others)

    def service(self, server: Server) -> str:
        """Name of the Service that leads to it."""
        return f"{server.name}-{self.entry}"

    def ready(self, server: Server) -> bool:
        """Whether it answers, and with its bundle from every pod."""
        if not server.available or server.bundle is None:
            return False
        return server is not self.home or server.complete or self.home_bundle == server.bundle

    def sends_to(self, server: Server) -> bool:
        """Whether the route gives it anything."""
        return self.route is not None and self.route.sends_to(self.service(server))


def plan(
    split: Split,
    observed: Observed,
    uris: Mapping[str, str],
    spec: Route,
    *,
    state: str,
    back: bool,
    now: datetime,
) -> list[Write]:
    """Writes that bring what was observed nearer to the split; none when it is there already. uris: digest to address, of every bundle of the split.
    state: name of the release's state. back: it is a rollback, which an edit by hand does not hold up."""
    wanted = {*split.percent, *split.warm, *([split.shadow] if split.shadow else [])}
    quiet = _quiet(observed, spec, now)
    writes = list(_servers(wanted, split, observed, uris, quiet))
    weights = _weights(split, observed, quiet)
    held = (
        observed.route is not None
        and observed.route.edited
        and not (back and observed.route.applied_for != state)
    )
    if weights and not held:
        mirror = _mirror(split, observed)
        writes += _route(routes.wanted(spec, weights, mirror), observed, spec.by, state, now)
    writes += _leavings(wanted, split, observed, quiet)
    return [*_pods(observed, writes), *writes]


def edits(observed: Observed) -> str:
    """What somebody changed by hand, in words; empty when nothing."""
    words = []
    if observed.route is not None and observed.route.edited:
        what = routes.kind_of(observed.route.by)
        words.append(f"the {what} was changed by hand; delete it to let the operator write it again")
    words += [
        f"{each.name} was told by hand to load {each.uri!r}, which no release named"
        for each in observed.servers
        if each.bundle is None
    ]
    return "; ".join(words)


def carried_out(split: Split, observed: Observed) -> str:
    """Why traffic is not split as decided; empty when it is."""
    if observed.route is None or observed.route.view is None:
        return "there is no route yet" if observed.route is None else "the route was changed by hand"
    bundles = {observed.service(each): each.bundle for each in observed.servers}
    shares: dict[str | None, int] = {}
    for service, weight in observed.route.view.weights:
        shares[bundles.get(service)] = shares.get(bundles.get(service), 0) + weight
    if shares != split.percent:
        waits = [
            f"{bundle[:12]} is not ready"
            for bundle in split.percent
            if not any(observed.ready(each) for each in observed.servers if each.bundle == bundle)
        ]
        return "; ".join(waits) or "the route is being written"
    if (bundles.get(observed.route.view.mirror or "")) != split.shadow:
        return "the mirror is not in place"
    return ""


def _servers(
    wanted: set[str], split: Split, observed: Observed, uris: Mapping[str, str], quiet: bool
) -> Iterator[Write]:
    """One for each bundle, and home on its way to the bundle that serves."""
    for bundle in sorted(wanted):
        if not any(each.bundle == bundle for each in observed.servers):
            yield from _create(bundle, observed, uris)
    home = observed.home
    if not split.settled or home.bundle is None:
        return
    (main,) = split.percent
    if home.bundle == main:
        return
    # Home leaves its bundle. If that one may have to serve again it must be up beside it first, and the one that comes must carry all.
    if home.bundle in wanted and not _up_beside(home.bundle, observed):
        if not any(each.bundle == home.bundle for each in observed.others):
            yield from _create(home.bundle, observed, uris)
    elif _up_beside(main, observed) and not observed.sends_to(home) and quiet:
        yield Write(
            Verb.PATCH,
            Kind.SERVICE,
            home.name,
            {
                "metadata": {"annotations": {BUNDLE: main}},
                "spec": servers.told_to_load(observed.template["spec"], uris[main]),
            },
            home.version,
        )


def _create(bundle: str, observed: Observed, uris: Mapping[str, str]) -> Iterator[Write]:
    name = servers.name_of(observed.home.name, bundle)
    if any(each.name == name for each in observed.others):
        return  # it was told by hand to load something else: reported, not fought
    most = max(each.replicas for each in observed.servers)
    yield Write(
        Verb.CREATE,
        Kind.SERVICE,
        name,
        servers.beside(observed.template, bundle, uris[bundle], observed.owner, most),
    )


def _pods(observed: Observed, writes: list[Write]) -> Iterator[Write]:
    """Services of the predictor's pods, for each server beside home: there before it, gone after it."""
    if observed.pods is None:
        return
    coming = {each.name for each in writes if each.kind is Kind.SERVICE and each.verb is Verb.CREATE}
    wanted = {servers.pods_name(name): name for name in (*coming, *(each.name for each in observed.others))}
    for service, name in sorted(wanted.items()):
        if service not in observed.others_pods:
            yield Write(
                Verb.CREATE, Kind.PODS, service, servers.pods_beside(observed.pods, name, observed.owner)
            )
    for service in sorted(set(observed.others_pods) - set(wanted)):
        yield Write(Verb.DELETE, Kind.PODS, service)


def _up_beside(bundle: str, observed: Observed) -> bool:
    return any(each.bundle == bundle and observed.ready(each) for each in observed.others)


def _weights(split: Split, observed: Observed, quiet: bool) -> dict[str, int]:
    """Service to percent. Empty: nobody who has a share is ready, so what is there stays."""
    ready = {
        bundle: found
        for bundle in split.percent
        if (found := [each for each in observed.servers if each.bundle == bundle and observed.ready(each)])
    }
    shares = _all_of_it({bundle: split.percent[bundle] for bundle in ready})
    weights: dict[str, int] = {}
    for bundle, share in shares.items():
        for server, part in _parts(ready[bundle], share, observed, quiet).items():
            if part:
                weights[observed.service(server)] = part
    return weights


def _all_of_it(shares: dict[str, int]) -> dict[str, int]:
    """The same proportions, adding up to 100: who is not ready leaves its share to the others."""
    total = sum(shares.values())
    if total in (0, 100):
        return shares
    found = {bundle: 100 * share // total for bundle, share in shares.items()}
    largest = max(found, key=lambda bundle: found[bundle])
    found[largest] += 100 - sum(found.values())
    return found


def _parts(ready: list[Server], share: int, observed: Observed, quiet: bool) -> dict[Server, int]:
    """The share of a bundle among its servers: all to the first (home, if it is one), step by step when it comes from another."""
    first, *rest = ready
    has = {} if observed.route is None or observed.route.view is None else dict(observed.route.view.weights)
    before = has.get(observed.service(first), 0)
    there = sum(has.get(observed.service(each), 0) for each in rest)
    if not rest or not there:
        return {first: share}
    part = min(share, before + MOVE) if quiet else min(share, before)
    return {first: part, rest[0]: share - part}


def _quiet(observed: Observed, spec: Route, now: datetime) -> bool:
    """Whether the route has not changed for a while."""
    at = None if observed.route is None else observed.route.applied_at
    return at is None or (now - at).total_seconds() >= spec.grace_seconds


def _mirror(split: Split, observed: Observed) -> str | None:
    ready = [each for each in observed.servers if each.bundle == split.shadow and observed.ready(each)]
    return observed.service(ready[0]) if split.shadow and ready else None


def _route(view: routes.View, observed: Observed, by: Carrier, state: str, now: datetime) -> Iterator[Write]:
    kind, name = routes.kind_of(by), routes.name_of(observed.home.name, by)
    said = routes.body(view, by, name=name, release=observed.owner["name"], state=state, now=now)
    if observed.route is None:
        yield Write(Verb.CREATE, kind, name, said)
    elif observed.route.view != view:
        yield Write(Verb.PATCH, kind, name, said, observed.route.version)


def _leavings(wanted: set[str], split: Split, observed: Observed, quiet: bool) -> Iterator[Write]:
    """Servers that nobody needs: of a bundle that is over, or of the one that came home to stay."""
    if not quiet:
        return
    came_home = observed.home.bundle if split.settled and observed.ready(observed.home) else None
    if came_home not in split.percent:
        came_home = None
    for each in observed.others:
        over = each.bundle is not None and (each.bundle not in wanted or each.bundle == came_home)
        left = any(observed.ready(other) for other in observed.servers if other is not each)
        if over and left and not observed.sends_to(each):
            yield Write(Verb.DELETE, Kind.SERVICE, each.name, version=each.version)


__all__ = ["MOVE", "Observed", "carried_out", "edits", "plan"]
