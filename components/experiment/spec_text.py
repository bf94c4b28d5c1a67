"""The experiment as a pipeline carries it: a path where files are shared, its text where they are not."""

from __future__ import annotations

from pathlib import Path

from clickmill.errors import UsageError
from clickmill.experiment import ExperimentSpec
from clickmill.experiment.spec import load, loads


def spec_of(text_or_path: str) -> ExperimentSpec:
    """Text has more than one line, a path has not. Raises UsageError."""
    if not text_or_path.strip():
        raise UsageError("spec: empty; give the path of an experiment's YAML, or its text")
    if "\n" in text_or_path:
        return loads(text_or_path, origin="spec (parameter of the run)")
    return load(Path(text_or_path))
