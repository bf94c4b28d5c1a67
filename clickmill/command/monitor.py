"""`clickmill monitor`: what watches a served model."""

from __future__ import annotations

import typer

from clickmill.command.monitor_drift import drift
from clickmill.command.monitor_experiment import experiment
from clickmill.command.monitor_quality import quality

app = typer.Typer(no_args_is_help=True, help="Watch a served model: live quality, drift, experiments.")
app.command()(quality)
app.command()(drift)
app.command()(experiment)
