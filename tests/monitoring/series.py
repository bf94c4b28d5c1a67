"""Which series there are: those our exporters show, and those our rules record."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from clickmill import metric_names as names
from monitoring.live import LiveCollector, Look, ReferenceCollector
from monitoring.live.joined import TakenIn
from serving.features.metrics import FeatureMetrics
from serving.metrics import Metrics

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


def exposed() -> set[str]:
    """Names of all series that our exporters show, as Prometheus sees them."""
    registry = CollectorRegistry()
    Metrics(registry)
    FeatureMetrics(registry)
    live = LiveCollector()
    live.show(Look(datetime.now(UTC), {}, {}), TakenIn())
    families = [*registry.collect(), *live.collect(), *ReferenceCollector(Path("nowhere")).collect()]
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}
