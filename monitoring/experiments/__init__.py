"""Watches a running experiment and exports its arms, split and answer so far as Prometheus metrics. May import `clickmill` only."""

from monitoring.experiments.exporter import ExperimentCollector
from monitoring.experiments.watch import Watched, look, watch

__all__ = ["ExperimentCollector", "Watched", "look", "watch"]
