"""Hyperparameter search: spaces as data, a resumable search by optuna, and the training of its trials, judged by validation NE alone.

May import `clickmill.training`, `clickmill.models` and what lies below. optuna is loaded on first use.
"""

from clickmill.sweep.search import Outcome, Report, Trial, search
from clickmill.sweep.space import Choice, Interval, SearchSpace, default_space, load_space
from clickmill.sweep.trials import SweepResult, settings_yaml, sweep

__all__ = [
    "Choice",
    "Interval",
    "Outcome",
    "Report",
    "SearchSpace",
    "SweepResult",
    "Trial",
    "default_space",
    "load_space",
    "search",
    "settings_yaml",
    "sweep",
]
