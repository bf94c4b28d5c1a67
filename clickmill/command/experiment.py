"""`clickmill experiment`: does B beat A, at what risk, and for how much money."""

from __future__ import annotations

import typer

from clickmill.command.experiment_analyze import analyze
from clickmill.command.experiment_assign import assign
from clickmill.command.experiment_demo import demo
from clickmill.command.experiment_design import design
from clickmill.command.experiment_off_policy import off_policy
from clickmill.command.experiment_run import run

app = typer.Typer(
    no_args_is_help=True,
    help="Design, assign and analyse A/B tests; ask what another policy would have earned.",
)
app.command("demo")(demo)
app.command("design")(design)
app.command("assign")(assign)
app.command("run")(run)
app.command("analyze")(analyze)
app.command("off-policy")(off_policy)
