"""Every metric is named in one place, exported, and told in docs/metrics.md with its type and labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from clickmill import metric_names
from serving.features import FeatureMetrics
from serving.metrics import ArrayHistogram, Metrics

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def told() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels of each metric as the docs' table has them."""
    rows = re.findall(r"^\| `(clickmill_\w+)` \| (\w+) \| ?([\w, ]*?) ?\|", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a metric is told once"
    return {name: (kind, tuple(sorted(filter(None, labels.split(", "))))) for name, kind, labels in rows}


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    """What a scrape holds, by the name that Prometheus shows."""
    found = text_string_to_metric_families(generate_latest(registry).decode())
    # each counter and histogram has a `_created` beside it, which is the client's own
    return {
        f"{f.name}_total" if f.type == "counter" else f.name: f
        for f in found
        if not f.name.endswith("_created")
    }


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for metric in [*vars(Metrics(registry)).values(), *vars(FeatureMetrics(registry)).values()]:
        touch(metric)
    return registry


def touch(metric: Any) -> None:
    """Give a metric one series, so that its labels are in the scrape."""
    if isinstance(metric, ArrayHistogram):
        metric.observe(np.array([0.1]), *["x"] * len(metric._labels))
    elif metric._labelnames:
        metric.labels(*["x"] * len(metric._labelnames))


def test_the_docs_tell_what_is_exported_and_nothing_else(registry):
    exported = {name: family.type for name, family in families(registry).items()}
    assert {name: kind for name, (kind, _) in told().items()} == exported


def test_the_docs_tell_the_labels_of_each(registry):
    labels = {
        name: tuple(sorted(family.samples[0].labels.keys() - {"le"}))
        for name, family in families(registry).items()
    }
    assert {name: found for name, (_, found) in told().items()} == labels


def test_every_metric_of_the_endpoint_is_a_constant_and_every_constant_is_in_use(registry):
    constants = {key: v for key, v in vars(metric_names).items() if isinstance(v, str) and key.isupper()}
    assert {name.removesuffix("_total") for name in families(registry)} <= set(constants.values())
    rooms = [
        path.read_text()
        for room in ("serving", "monitoring")
        for path in (DOCS.parents[1] / room).rglob("*.py")
    ]
    code = "\n".join(rooms)
    assert [key for key in constants if f"names.{key}" not in code] == []


def test_no_other_file_spells_a_metric():
    root = DOCS.parents[1]
    known = {v for v in vars(metric_names).values() if isinstance(v, str)}
    spelled = [
        f"{path.relative_to(root)}: {found}"
        for room in ("clickmill", "serving", "monitoring", "components", "pipelines")
        for path in (root / room).rglob("*.py")
        if path.name != "metric_names.py"
        for found in re.findall(r"clickmill_[a-z_]+", path.read_text())
        if re.sub(r"_(total|bucket|sum|count|created)$", "", found) in known
    ]
    assert spelled == []
