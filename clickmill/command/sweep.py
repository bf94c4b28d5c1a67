"""`clickmill sweep`: search the settings of a model on a prepared dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, Bars, print_json, result, words
from clickmill.command.settings import nested
from clickmill.command.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    from rich.table import Table

    from clickmill.sweep import SweepResult, Trial

SHOWN = 10
"""Best trials in the table."""


def sweep(
    data: Annotated[Path, typer.Argument(help="Prepared dataset (clickmill data prepare).")],
    model: Annotated[
        str, typer.Option(help="Model to tune: lr, fm, wide_deep, dcn, dcn_v2, dlrm, din, dien.")
    ] = "dcn_v2",
    trials: Annotated[
        int, typer.Option(min=1, help="Number of trials in total, including those of earlier calls.")
    ] = 20,
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML with what may be tried, such as `training.l2: {low: 1.0, high: 1000.0, log: true}`; default: rates, l2, width, tower."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for trials and result. The same folder again continues where it stopped.",
        ),
    ] = Path("out/sweep"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="A setting of all trials, such as training.epochs=5, model.dim=16.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search and of every training.")] = 0,
    json: AsJson = False,
) -> None:
    """Search learning rates, l2, widths and the like by normalized entropy on the validation split.

    Trials that fall behind the others are given up early. The test split is never looked at. Ctrl-C keeps what is done: the
    same command goes on, also within a trial. The best settings are printed as --set options of clickmill run and written to
    best.yaml, which [bold]clickmill run --settings[/bold] takes.

    [bold]Exit status[/bold]: 0 done, 1 no trial ended well, 2 wrong usage, 130 interrupted.
    """
    from clickmill.data import PreparedDataset
    from clickmill.features import FeatureSpace, fit
    from clickmill.sweep import default_space, load_space
    from clickmill.sweep import sweep as search

    dataset = PreparedDataset.open(data)
    fixed = {
        f"{topic}.{name}": value
        for topic, values in nested(settings or [], ["training", "model"]).items()
        for name, value in values.items()
    }
    wanted = {
        name: dimension
        for name, dimension in (load_space(space, model) if space else default_space(model)).items()
        if name not in fixed
    }
    start_tensorflow()
    learned = data / "space"  # a run of the pipeline leaves it there
    rows = FeatureSpace.load(learned) if learned.is_dir() else fit(dataset)
    best: list[float] = []

    def watch(trial: Trial) -> None:
        if trial.outcome == "complete" and trial.value is not None:
            best.append(trial.value)
        words.print(_line(trial, min(best, default=None)), soft_wrap=True)

    with Bars() as bars:
        found = search(
            dataset,
            rows,
            model,
            wanted,
            trials=trials,
            out=out,
            fixed=fixed,
            seed=seed,
            progress=bars,
            watch=watch,
        )
    options = _options(model, found.settings)
    if json:
        print_json(
            {
                "model": model,
                "validation_ne": found.best.value,
                "settings": dict(found.settings),
                "set": options,
                "trials": [trial.__dict__ for trial in found.trials],
            }
        )
        return
    result.print(_table(found))
    result.print(f"\nbest of {len(found.trials)} by validation NE, {found.best.value:.4f}:")
    for option in options:
        result.print(f"  --set {option}", markup=False, soft_wrap=True)
    words.print(
        f"clickmill run ... --models {model} --settings {out / 'best.yaml'} takes the same", soft_wrap=True
    )


def _line(trial: Trial, best: float | None) -> str:
    marks = {"complete": "[green]✓[/]", "pruned": "[yellow]-[/]", "failed": "[red]✗[/]"}
    value = "diverged" if trial.value is None else f"NE {trial.value:.4f}"
    given_up = ", given up" if trial.outcome == "pruned" else ""
    known = "" if best is None else f" (best {best:.4f})"
    return f"{marks[trial.outcome]} trial {trial.number + 1:<3} {value}{given_up}{known}  [dim]{_short(trial)}[/]"


def _short(trial: Trial) -> str:
    return "  ".join(f"{name.partition('.')[2]} {_text(value)}" for name, value in trial.settings.items())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _options(model: str, settings: Any) -> list[str]:
    """What `clickmill run --set` takes: the settings of a model stand below its name."""
    import json

    return [
        f"{name.replace('model.', f'model.{model}.', 1) if name.startswith('model.') else name}={json.dumps(value)}"
        for name, value in settings.items()
    ]


def _table(found: SweepResult) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    names = list(found.best.settings)
    for title in ("trial", "validation NE", "", *(name.partition(".")[2] for name in names)):
        table.add_column(title, justify="right")
    ranked = sorted(
        (t for t in found.trials if t.value is not None), key=lambda t: (t.outcome != "complete", t.value)
    )
    for trial in ranked[:SHOWN]:
        table.add_row(
            str(trial.number + 1),
            f"{trial.value:.4f}",
            "" if trial.outcome == "complete" else "given up",
            *(_text(trial.settings[name]) for name in names),
        )
    return table
