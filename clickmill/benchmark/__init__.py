"""Benchmarks on published splits: their layouts, the figures others published, our recipes, and the run that puts the two side by side.

May import `clickmill.training`, `clickmill.models` and what lies below.
"""

from clickmill.benchmark import report
from clickmill.benchmark.layout import Layout, recognize
from clickmill.benchmark.published import DATASETS, Dataset, Figure
from clickmill.benchmark.recipe import RECIPES, Recipe, recipes_for
from clickmill.benchmark.suite import ModelResult, learn, prepare, run

__all__ = [
    "DATASETS",
    "RECIPES",
    "Dataset",
    "Figure",
    "Layout",
    "ModelResult",
    "Recipe",
    "learn",
    "prepare",
    "recipes_for",
    "recognize",
    "report",
    "run",
]
