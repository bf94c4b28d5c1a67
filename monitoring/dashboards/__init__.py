"""Grafana dashboards as code: one file each, written as JSON by `python -m monitoring.dashboards.write`. May import `clickmill.metric_names` only."""

from monitoring.dashboards import experiment, features, quality, release, serving

BOARDS = {
    "serving": serving.dashboard,
    "quality": quality.dashboard,
    "features": features.dashboard,
    "release": release.dashboard,
    "experiment": experiment.dashboard,
}
"""By the name of their file: what gives the dashboard."""

__all__ = ["BOARDS"]
