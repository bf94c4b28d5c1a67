"""`clickmill experiment`: does B beat A, at what risk, and for how much money."""

from __future__ import annotations

import typer

from clickmill.command.experiment_off_policy import off_policy

app = typer.Typer(no_args_is_help=True, help="Does B beat A, and would C have?")


@app.callback()
def _group() -> None:
    """Does B beat A, and would C have?"""  # keeps `off-policy` a word of its own while it is the only one


app.command("off-policy")(off_policy)
