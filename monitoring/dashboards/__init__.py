"""Grafana dashboards as code: one file each, written as JSON by `python -m monitoring.dashboards.write`. And the rules of
`monitoring/alerts` as Grafana takes them (`alert_files`). May import `clickmill.metric_names` only."""

from monitoring.dashboards import data, drift, experiment, features, quality, release, serving

BOARDS = {
    "serving": serving.dashboard,
    "quality": quality.dashboard,
    "features": features.dashboard,
    "release": release.dashboard,
    "drift": drift.dashboard,
    "data": data.dashboard,
    "experiment": experiment.dashboard,
}
"""By the name of their file: what gives the dashboard."""

__all__ = ["BOARDS"]
