"""From files to an analysis, with a DuckDB connection that spills instead of growing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from clickmill.data import engine
from clickmill.experiment import log as logs
from clickmill.experiment.analysis import analyse
from clickmill.experiment.findings import Analysis
from clickmill.experiment.spec import ExperimentSpec
from clickmill.experiment.user_sums import UserSums

DAY = timedelta(days=1)


def analyse_log(
    spec: ExperimentSpec, paths: Sequence[Path], *, look: timedelta = DAY, holdout: bool = False
) -> Analysis:
    """An experiment's own log; with `holdout` everybody else beside those who are held out. Raises what `logs.log`, `UserSums`, `analyse`
    and `spec.of_holdout` raise."""
    with connection() as con, engine.interruptible(), engine.engine_errors(paths[0] if paths else None):
        return _analysed(con, logs.log(con, paths, spec), spec, look, holdout)


def analyse_joined(
    spec: ExperimentSpec,
    predictions: Sequence[Path],
    clicks: Sequence[Path],
    *,
    attribution: timedelta,
    look: timedelta = DAY,
    holdout: bool = False,
) -> Analysis:
    """A running endpoint's prediction log, with its clicks; the rest as `analyse_log`. Raises what `logs.joined` raises, too."""
    with (
        connection() as con,
        engine.interruptible(),
        engine.engine_errors(predictions[0] if predictions else None),
    ):
        source = logs.joined(con, predictions, clicks, spec, attribution=attribution)
        return _analysed(con, source, spec, look, holdout)


def _analysed(
    con: Any, source: logs.Source, spec: ExperimentSpec, look: timedelta, holdout: bool
) -> Analysis:
    if holdout:
        return analyse(UserSums(con, logs.beside_holdout(source), spec.of_holdout, look=look))
    return analyse(UserSums(con, logs.inside(source, spec), spec, look=look))


@contextmanager
def connection() -> Iterator[Any]:
    """A DuckDB connection whose aggregates spill to a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="clickmill-experiment-") as folder:
        backend = engine.connect(temp_directory=Path(folder))
        try:
            yield backend.con
        finally:
            backend.disconnect()


__all__ = ["analyse_joined", "analyse_log", "connection"]
