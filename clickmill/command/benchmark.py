"""`clickmill benchmark`: the zoo on published splits, beside the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, Bars, print_json, result, words
from clickmill.command.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from clickmill.benchmark import ModelResult

SUITES = ("bars",)


def benchmark(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with train, valid and test (.csv or .libsvm, also .gz)."),
    ],
    suite: Annotated[
        str, typer.Option(help="Which published figures: bars (Frappe_x1, MovielensLatest_x1).")
    ] = "bars",
    models: Annotated[
        str, typer.Option(help="Models to train, comma-separated.")
    ] = "lr,fm,wide_deep,dcn,dcn_v2,dlrm",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for models and results. The same folder again continues where it stopped.",
        ),
    ] = Path("out/benchmark"),
    dataset: Annotated[
        str | None,
        typer.Option(
            help="frappe_x1, movielenslatest_x1, or none; default: recognized by the columns or the number of ids."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of everything random: the same seed gives the same result.")
    ] = 0,
    json: AsJson = False,
) -> None:
    """Train the zoo on published splits and print AUC and log loss beside the published figures.

    DIR is laid out as Frappe_x1 or MovielensLatest_x1: train, valid and test as CSV (label, then the fields, also without a header) or as
    libsvm (`1 17:1 204:1 ...`, one id per field). Any other data in this layout is trained too, without figures to compare.

    Early stopping sees the validation split; the test split is scored once. Ctrl-C saves: the same command goes on from there, and
    a model whose result is in --out already is not trained again. Writes results.json and report.md to --out.

    [bold]Exit status[/bold]: 0 all models trained, 1 the data could not be used, 2 wrong usage, 130 interrupted.
    """
    from clickmill.benchmark import prepare, recipes_for, recognize, report, run
    from clickmill.errors import UsageError

    if suite not in SUITES:
        raise UsageError(f"no suite is called {suite!r}; there is {', '.join(SUITES)}")
    recipes = recipes_for(name.strip() for name in models.split(",") if name.strip())
    layout = recognize(folder, dataset)
    title = layout.dataset.name if layout.dataset else "no published data set"
    words.print(f"[bold]{title}[/]: {layout.format}, {len(layout.fields)} fields")
    start_tensorflow()
    results: list[ModelResult] = []
    with Bars() as bars:
        prepared = prepare(layout, out, bars)
        meta = prepared.meta
        for found in run(layout, prepared, recipes, out, seed=seed, progress=bars):
            results.append(found)
            words.print(_line(found))
            # After each model, so that what is done can be read while the rest is trained.
            report.write(layout, meta, results, out)
    if json:
        print_json(report.document(layout, meta, results))
        return
    result.print(_table(results))
    for remark in report.remarks(layout, meta):
        words.print(f"[yellow]note[/]: {remark}", soft_wrap=True)
    words.print(f"{out / report.PAGE} and {out / report.RESULTS} hold the same", soft_wrap=True)


def _line(found: ModelResult) -> str:
    published = "" if found.difference is None else f", {found.difference:+.4f} to the published"
    return f"[green]✓[/] {found.model:<10} AUC {found.auc.value:.4f}{published}"


def _table(results: Sequence[ModelResult]) -> Table:
    from rich.table import Table

    from clickmill.benchmark import report

    table = Table(box=None, pad_edge=False)
    for title in report.COLUMNS:
        table.add_column(title, justify="left" if title == "model" else "right")
    for found in results:
        table.add_row(*report.cells(found))
    return table
