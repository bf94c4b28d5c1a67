"""Experiments from their design to a verdict: does B beat A, at what risk, and for how much money.

May import all of the library but `clickmill.command`; numpy, DuckDB and pydantic in what is imported here, since the ranker assigns arms
with it; scipy, statsmodels and matplotlib inside the functions that need them.
"""

from clickmill.experiment.assignment import Assigned, Place, assign
from clickmill.experiment.spec import ArmSpec, ExperimentSpec, Goal, MetricSpec, Served

__all__ = ["ArmSpec", "Assigned", "ExperimentSpec", "Goal", "MetricSpec", "Place", "Served", "assign"]
