"""Evidence of a release from Prometheus: what each bundle's pods answered, and how its predictions came out, in each spell of the split.

Asked anew at every look, so nothing is counted by the operator and nothing is lost when it is killed. Counts are differences of
counters over a spell. A counter that was born within it counts from 0, which `increase` alone would miss; pods that went away within
it count up to their last scrape. An edge of a spell is known to a scrape interval: on both sides alike.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from clickmill import metric_names as names
from clickmill.errors import ClickmillError
from clickmill.release import (
    Arm,
    Evidence,
    Labelled,
    Period,
    Phase,
    Release,
    ReleasePolicy,
    Shadowed,
    Traffic,
    Watched,
)
from clickmill.release.release import UNDER_WAY
from monitoring.operator.observe import PrometheusEvidence
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.status import Spell, Status

UNANSWERED = "internal|not_finite|not_ready|overload|deadline"
"""Reasons of a refusal that are not the caller's fault."""
BROKEN = "internal|not_finite"
"""Reasons of a fallback, or a refusal, that are the bundle's fault whatever the machine does."""
OWN, BEHIND = f'{names.PROTOCOL}!="{names.RANKER}"', f'{names.PROTOCOL}="{names.RANKER}"'
"""Callers' requests, and those by which a ranker in a pod of its own asks its predictor: callers' were counted at the ranker."""
LEAST = 1.0
"""Seconds of a spell below which it is not asked about."""


class PrometheusSilent(ClickmillError):
    """Prometheus did not answer, or not with what was asked."""


class Prometheus:
    """One Prometheus, by its HTTP API. matchers: of all series, with `{namespace}` in place of the ModelRelease's namespace."""

    def __init__(self, url: str, *, matchers: str = 'namespace="{namespace}"', seconds: float = 10.0) -> None:
        self._url, self._matchers, self._seconds = url.rstrip("/"), matchers, seconds

    def evidence(
        self, namespace: str, status: Status, spec: ModelReleaseSpec, now: datetime
    ) -> PrometheusEvidence:
        """All evidence of a release now."""
        if status.release is None:
            return PrometheusEvidence()
        try:
            return self._evidence(self._matchers.replace("{namespace}", namespace), status, spec.policy, now)
        except PrometheusSilent as error:
            return PrometheusEvidence(error=str(error))

    def _evidence(
        self, where: str, status: Status, policy: ReleasePolicy, now: datetime
    ) -> PrometheusEvidence:
        release = status.state
        served = self.query(f"max by ({names.DIGEST}) ({names.BUNDLE_INFO}{{{where}}})", now)
        delays = self.query(f"max({names.LIVE_RIPENING}{{{where}}})", now)
        delay = timedelta(seconds=next(iter(delays.values()))) if delays else None
        spells = list(zip(status.spells, _ends(status.spells, now), strict=True))
        shadow, canary, watch = [], [], []
        for spell, until in spells:
            if (until - spell.since).total_seconds() < LEAST:
                continue
            ask = _Asked(self, where, policy, spell.since, until, now, delay)
            if spell.phase is Phase.SHADOW and release.candidate:
                shadow.append(ask.shadowed(release.candidate, release.stable))
            elif spell.phase is Phase.CANARY and release.candidate:
                canary.append(ask.period(spell, release))
            elif spell.phase not in UNDER_WAY:
                since = max(spell.since, now - timedelta(seconds=policy.watch_seconds))
                if (until - since).total_seconds() < LEAST:
                    continue
                ask = _Asked(self, where, policy, since, until, now, delay)
                # No second bundle gets requests here, so what load and machine do must not count against the one that does.
                watch.append(Watched(traffic=ask.traffic(release.stable, unanswered=BROKEN)))
        return PrometheusEvidence(
            evidence=Evidence(shadow=tuple(shadow), canary=tuple(canary), watch=tuple(watch)),
            served=frozenset(dict(labels).get(names.DIGEST, "") for labels in served),
        )

    def query(self, expression: str, at: datetime) -> dict[tuple[tuple[str, str], ...], float]:
        """An instant query: labels to value. Raises PrometheusSilent."""
        asked = urllib.parse.urlencode({"query": expression, "time": f"{at.timestamp():.3f}"})
        request = urllib.request.Request(f"{self._url}/api/v1/query", data=asked.encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self._seconds) as answer:
                found: Mapping[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            words = error.read(500).decode(errors="replace")
            raise PrometheusSilent(f"{self._url} answers {error.code}: {words}") from error
        except (OSError, ValueError) as error:
            raise PrometheusSilent(f"{self._url} does not answer: {error}") from error
        return {
            tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in found["data"]["result"]
        }


class _Asked:
    """What happened in one spell."""

    def __init__(
        self,
        source: Prometheus,
        where: str,
        policy: ReleasePolicy,
        since: datetime,
        until: datetime,
        now: datetime,
        delay: timedelta | None,
    ) -> None:
        self._source, self._where, self._policy = source, where, policy
        self._since, self._until, self._now, self._delay = since, until, now, delay

    def traffic(self, bundle: str, *, unanswered: str = UNANSWERED) -> Traffic:
        """What a bundle's pods answered. unanswered: reasons of refusals that count."""
        seconds = math.ceil((self._until - self._since).total_seconds())
        edge = bisect_left(names.LATENCY_EDGES, self._policy.p99_ms / 1e3)
        count = f"{names.REQUEST_SECONDS}_count"
        wanted = {
            "answers": self._of_pods(count, OWN, seconds, bundle),
            "unanswered": self._of_pods(
                f"{names.REJECTED}_total", f'{names.REASON}=~"{unanswered}"', seconds, bundle
            ),
            "behind": self._of_pods(
                f"{names.REJECTED}_total", f'{names.REASON}=~"{unanswered}",{BEHIND}', seconds, bundle
            ),
            "broken": self._of_pods(
                f"{names.FALLBACKS}_total", f'{names.REASON}=~"{BROKEN}"', seconds, bundle
            ),
            "not_finite": self._of_pods(f"{names.NOT_FINITE}_total", "", seconds, bundle),
        }
        if edge < len(names.LATENCY_EDGES):
            le = f'le="{float(names.LATENCY_EDGES[edge])!r}",{OWN}'
            wanted["quick"] = self._of_pods(f"{names.REQUEST_SECONDS}_bucket", le, seconds, bundle)
        found = self._named(wanted, self._until)
        # What the predictor refuses its ranker is a failure, and no request: the ranker answers that all the same.
        answers, refused = found.get("answers", 0), found.get("unanswered", 0)
        slow = max(answers - found.get("quick", answers), 0)
        requests = answers + refused - found.get("behind", 0)
        return Traffic(
            requests=requests,
            errors=min(refused + found.get("broken", 0), requests),
            slow=slow,
            not_finite=found.get("not_finite", 0),
        )

    def labelled(self, bundle: str) -> Labelled:
        """How its predictions came out, as far as they can be judged by now."""
        match = f'{names.BUNDLE}="{bundle[:12]}"'
        found = self._judged(dict(names.JUDGED), match)
        impressions = round(found.get("impressions", 0.0))
        return Labelled(
            impressions=impressions,
            clicks=min(round(found.get("clicks", 0.0)), impressions),
            **{
                name: max(found.get(name, 0.0), 0.0)
                for name in ("pctr", "residual_squares", "log_loss", "log_loss_squares")
            },
        )

    def shadowed(self, candidate: str, stable: str) -> Shadowed:
        """A spell of shadowing: all that the candidate's pods answer is a copy."""
        match = f'{names.BUNDLE}="{candidate[:12]}",{names.BESIDE}="{stable[:12]}"'
        pair = self._judged(dict(names.PAIRED), match)
        return Shadowed(
            traffic=self.traffic(candidate),
            labelled=self.labelled(candidate),
            stable=self._arm(stable),
            difference=pair.get("worse", 0.0) - pair.get("better", 0.0),
            difference_squares=max(pair.get("squares", 0.0), 0.0),
        )

    def period(self, spell: Spell, release: Release) -> Period:
        """A spell of shared traffic."""
        return Period(
            percent=spell.percent or 1,
            candidate=self._arm(str(release.candidate)),
            stable=self._arm(release.stable),
        )

    def _arm(self, bundle: str) -> Arm:
        return Arm(traffic=self.traffic(bundle), labelled=self.labelled(bundle))

    def _judged(self, series: Mapping[str, str], match: str) -> dict[str, float]:
        """Sums of live quality over the impressions of the spell: they are counted when they can be judged, a while later."""
        if self._delay is None:
            return {}
        until = min(self._until + self._delay, self._now)
        seconds = math.ceil((until - self._since - self._delay).total_seconds())
        if seconds < LEAST:
            return {}
        wanted = {
            name: f"sum({self._counted(f'{each}_total', match, seconds)})" for name, each in series.items()
        }
        return self._values(wanted, until)

    def _of_pods(self, series: str, match: str, seconds: int, bundle: str) -> str:
        """Of the pods that report the bundle."""
        info = f'{names.BUNDLE_INFO}{{{names.DIGEST}="{bundle}",{self._where}}}'
        pods = f"max by (instance, job) (last_over_time({info}[{seconds}s]))"
        return f"sum({self._counted(series, match, seconds)} * on (instance, job) group_left () {pods})"

    def _counted(self, series: str, match: str, seconds: int) -> str:
        each = f"{series}{{{','.join(part for part in (match, self._where) if part)}}}"
        window = f"[{seconds}s]"
        return f"((increase({each}{window}) and {each} offset {seconds}s) or last_over_time({each}{window}))"

    def _named(self, wanted: Mapping[str, str], at: datetime) -> dict[str, int]:
        return {name: round(value) for name, value in self._values(wanted, at).items()}

    def _values(self, wanted: Mapping[str, str], at: datetime) -> dict[str, float]:
        """Several sums by one query; what has no series is left out."""
        parts = [f'label_replace({each}, "what", "{name}", "", "")' for name, each in wanted.items()]
        found = self._source.query(" or ".join(parts), at)
        return {dict(labels)["what"]: value for labels, value in found.items() if math.isfinite(value)}


def _ends(spells: tuple[Spell, ...], now: datetime) -> list[datetime]:
    return [*(spell.since for spell in spells[1:]), now][: len(spells)]


__all__ = ["Prometheus", "PrometheusSilent"]
