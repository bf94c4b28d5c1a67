"""The few kinds of panels we use, and how they lie on a dashboard."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef("prometheus", "${datasource}")
"""The Prometheus chosen at the top of the dashboard."""
RATE = "$__rate_interval"
"""Grafana's own: four scrapes or one step of the graph, whichever is longer."""

Panel: TypeAlias = timeseries.Panel | stat.Panel | table.Panel


def lines(
    title: str, unit: str, words: str, queries: Mapping[str, str], *, least: float | None = None
) -> Panel:
    """Lines over time, half a dashboard wide. queries: PromQL by legend (`{{label}}` stands for its value); unit: a Grafana unit."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(words)
        .unit(unit)
        .datasource(SOURCE)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(12)
        .height(8)
    )
    if least is not None:
        panel.min(least)
    for ref, (legend, query) in zip(string.ascii_uppercase, queries.items(), strict=False):
        panel.with_target(Dataquery().ref_id(ref).expr(query).legend_format(legend))
    return panel


def number(title: str, unit: str, words: str, query: str, legend: str = "{{model_name}}") -> Panel:
    """The value of now, a quarter wide; one figure per series."""
    target = Dataquery().ref_id("A").expr(query).legend_format(legend).instant()
    return (
        stat.Panel()
        .title(title)
        .description(words)
        .unit(unit)
        .datasource(SOURCE)
        .span(6)
        .height(5)
        .with_target(target)
    )


def rows(title: str, words: str, query: str) -> Panel:
    """A table of the series of now with their labels, half a dashboard wide."""
    target = Dataquery().ref_id("A").expr(query).format(PromQueryFormat.TABLE).instant()
    return (
        table.Panel()
        .title(title)
        .description(words)
        .datasource(SOURCE)
        .span(12)
        .height(8)
        .with_target(target)
    )


def board(uid: str, title: str, words: str, parts: Mapping[str, Sequence[Panel]]) -> dashboards.Dashboard:
    """A dashboard of titled rows. `uid` is in its address and never changes."""
    made = (
        dashboards.Dashboard(title)
        .uid(uid)
        .description(words)
        .tags(["clickmill"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    number = 0
    for name, panels in parts.items():
        number += 1
        made.with_row(dashboards.Row(name).id(number))
        for panel in panels:
            number += 1
            made.with_panel(panel.id(number))
    return made
