"""Puts the subcommands together and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clickmill.command import (
    auction,
    benchmark,
    bundle,
    capacity,
    contract,
    data,
    demo,
    drill,
    experiment,
    features,
    model,
    monitor,
    operator,
    pipeline,
    predict,
    release,
    run,
    serve,
    serve_ranker,
    serve_router,
    sweep,
    train,
)
from clickmill.command.console import words
from clickmill.errors import ClickmillError

EXIT_INTERRUPTED = 130
"""What shells expect of a program ended by Ctrl-C (128 + SIGINT)."""


class _Group(TyperGroup):
    """Ends the program with the exit code that the error tree gives, and the error's own words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClickmillError as error:
            words.print(f"[bold red]{type(error).__name__}[/]:", end=" ")
            words.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            words.print("[bold]interrupted[/]", end=" ")
            words.print(str(interrupt), markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


app = typer.Typer(
    name="clickmill",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit status: 0 done, 1 could not run, 2 wrong usage or contract, 3 the gate kept the champion, 130 interrupted.",
)
app.command("demo", rich_help_panel="Start here")(demo.demo)
app.command("run", rich_help_panel="Start here")(run.run)
app.command("serve", rich_help_panel="Endpoint")(serve.serve)
app.command("serve-ranker", rich_help_panel="Endpoint")(serve_ranker.serve_ranker)
app.command("serve-router", rich_help_panel="Endpoint")(serve_router.serve_router)
app.command("capacity", rich_help_panel="Endpoint")(capacity.capacity)
app.command("predict", rich_help_panel="Endpoint")(predict.predict)
app.add_typer(features.app, name="features", rich_help_panel="Endpoint")
app.add_typer(monitor.app, name="monitor", rich_help_panel="Endpoint")
app.add_typer(release.app, name="release", rich_help_panel="Endpoint")
app.add_typer(operator.app, name="operator", rich_help_panel="Endpoint")
app.command("drill", rich_help_panel="Endpoint")(drill.drill)
app.add_typer(pipeline.app, name="pipeline", rich_help_panel="Models")
app.add_typer(contract.app, name="contract", rich_help_panel="Inputs")
app.add_typer(data.app, name="data", rich_help_panel="Inputs")
app.command("train", rich_help_panel="Models")(train.train)
app.add_typer(model.app, name="model", rich_help_panel="Models")
app.command("benchmark", rich_help_panel="Models")(benchmark.benchmark)
app.command("sweep", rich_help_panel="Models")(sweep.sweep)
app.add_typer(bundle.app, name="bundle", rich_help_panel="Models")
app.add_typer(experiment.app, name="experiment", rich_help_panel="Models")
app.add_typer(auction.app, name="auction", rich_help_panel="Models")


def _print_version(asked: bool) -> None:
    if asked:
        from clickmill import __version__

        typer.echo(f"clickmill {__version__}")
        raise typer.Exit


@app.callback()
def clickmill(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Turn ad logs into calibrated click probabilities behind an endpoint.

    [bold]clickmill demo[/bold] shows the whole way on a simulated ad market, on this machine.
    [bold]clickmill contract init FILE[/bold] drafts a contract for your own log; [bold]clickmill run[/bold] trains on it.
    """


def main() -> None:
    """Entry point of the `clickmill` program."""
    # TensorFlow writes pages of start-up notes to stderr, where our own words belong.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app(prog_name="clickmill")
    except BrokenPipeError:
        # The reader of our stdout went away (`clickmill ... | head`): not our error, nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
