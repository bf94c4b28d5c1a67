"""Which series there are: those our exporters show, and those our rules record."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from prometheus_client import CollectorRegistry

from clickmill import metric_names as names
from clickmill.release import Journal, Release, Seen, Traffic
from monitoring.drift import DriftCollector
from monitoring.experiments import ExperimentCollector
from monitoring.live import LiveCollector, Look, ReferenceCollector
from monitoring.live.label_join import Ingested
from monitoring.release import Inbox
from monitoring.release.receiver import ReleaseCollector
from serving.features.metrics import FeatureMetrics
from serving.metrics import Metrics
from serving.router import ClusterRouter, RouterCollector, RouterSettings
from serving.router.shares_watch import Api

ALERTS = Path(__file__).parents[2] / "monitoring" / "alerts"
FILES = sorted(p for p in ALERTS.glob("*.yaml") if not p.name.endswith(".test.yaml"))
RULES = [
    (path.stem, rule)
    for path in FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
"""(name of the file, rule), in order."""
RECORDED = {rule["record"] for _, rule in RULES if "record" in rule}
LABELS = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)} | {
    "instance",
    "job",
    "le",
}


class Door:
    """A release target at whose door 20 requests come between two looks, one of them slow and one failing."""

    looks = 0

    def seen(self) -> tuple[str, dict[str, Seen]]:
        self.looks += 1
        counts = Traffic(requests=20 * self.looks, errors=self.looks, slow=self.looks)
        return "once", {"a" * 64: Seen(live=counts, shadow=counts)}


def releases(folder: Path) -> ReleaseCollector:
    """What the release machine exports, of an endpoint that serves its first bundle."""
    journal = Journal(folder / "ads.jsonl")
    journal.begin(Release.first("ads", "a" * 64, datetime.now(UTC)), by="ann", reason="first")
    return ReleaseCollector(journal, Inbox(folder / "alerts.json"), Door(), time.time)


def router() -> RouterCollector:
    """What a cluster's router exports once the API server has answered it."""
    settings = RouterSettings("ctr-shares", "ctr-predictor", "127.0.0.1", 0, 0, 2.0, 0.0)
    found = ClusterRouter(settings, Api("http://127.0.0.1", "ads", Path("token"), None))
    found.watch.heard_at = time.time()
    return RouterCollector(found)


def exposed() -> set[str]:
    """Names of all series that our exporters show, as Prometheus sees them."""
    registry = CollectorRegistry()
    Metrics(registry)
    FeatureMetrics(registry)
    live = LiveCollector()
    live.show(Look(datetime.now(UTC), {}, {}), Ingested())
    with TemporaryDirectory() as folder:
        of_releases = list(releases(Path(folder)).collect())
    references = ReferenceCollector(Path("nowhere")).collect()
    others = [*ExperimentCollector("one").collect(), *DriftCollector().collect()]
    families = [*others, *registry.collect(), *live.collect(), *references, *of_releases, *router().collect()]
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}
