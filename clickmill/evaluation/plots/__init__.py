"""Plots of an evaluation as SVG or PNG bytes. May import the rest of `clickmill.evaluation` and, inside functions, matplotlib."""

from clickmill.evaluation.plots.history import entropy_history
from clickmill.evaluation.plots.lift import lift_curve
from clickmill.evaluation.plots.reliability import reliability_diagram
from clickmill.evaluation.plots.roc import roc_plot
from clickmill.evaluation.plots.slices import slice_forest
from clickmill.evaluation.plots.theme import Format

__all__ = ["Format", "entropy_history", "lift_curve", "reliability_diagram", "roc_plot", "slice_forest"]
