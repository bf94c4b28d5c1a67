"""`clickmill data`: make a simulated market, hold files against a contract, prepare a data set by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import AsJson, Bars, print_facts, print_json, words

app = typer.Typer(no_args_is_help=True, help="Simulate, check and prepare impression and click logs.")


@app.command()
def world(
    out: Annotated[
        Path, typer.Argument(help="Folder to write impressions/, clicks/, truth/ and world.json to.")
    ],
    impressions: Annotated[int, typer.Option(min=1000, help="Impressions to simulate.")] = 1_000_000,
    seed: Annotated[
        int, typer.Option(help="Seed of the simulation: the same seed gives the same bytes.")
    ] = 0,
    json: AsJson = False,
) -> None:
    """Simulate an ad market whose true click probabilities are known.

    Users with interests and histories, ads with bids, crosses, sequences, position bias and delayed clicks. The truth is
    written to a folder of its own, for evaluation only. About 20 s for a million impressions.
    """
    from clickmill.data.world import WorldConfig, write

    with Bars() as bars:
        report = write(WorldConfig(impressions=impressions, seed=seed), out, progress=bars)
    if json:
        print_json(report.model_dump(mode="json"))
        return
    ceiling = report.ceiling
    print_facts(
        f"Simulated market in {out}",
        {
            "impressions": report.impressions,
            "clicks": report.clicks,
            "CTR": f"{report.ctr:.2%}",
            "ceiling AUC": ceiling.auc,
            "ceiling NE": ceiling.ne,
        },
    )
    words.print(
        f"next: clickmill run {out}/impressions --clicks {out}/clicks --truth {out}/truth "
        "--contract contracts/world.yaml --set preparation.window=72h",
        soft_wrap=True,
    )


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Files or folders of one log.")],
    contract: Annotated[Path, typer.Option("--contract", "-c", help="Contract YAML.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for good.parquet and quarantine.parquet.")],
    max_quarantine_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Stop the run when a larger share of rows than this breaks the contract."
        ),
    ] = 0.01,
    json: AsJson = False,
) -> None:
    """Split a log into rows that keep the contract and rows that break it, each with its reason."""
    from clickmill import contract as contracts
    from clickmill import data as tables

    loaded = contracts.load(contract)
    report = tables.check(
        tables.read(files, loaded),
        loaded,
        max_quarantine_share=max_quarantine_share,
        quarantine=out / "quarantine.parquet",
        out=out / "good.parquet",
        origin=", ".join(map(str, files)),
    )
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        words.print(report.message, markup=False)


@app.command()
def prepare(
    impressions: Annotated[list[Path], typer.Argument(help="Files or folders of the impression log.")],
    contract: Annotated[Path, typer.Option("--contract", "-c", help="Contract YAML.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the prepared data set; must not exist.")
    ],
    clicks: Annotated[
        list[Path] | None, typer.Option(help="Click log (Parquet or CSV: impression id, click time).")
    ] = None,
    window_hours: Annotated[
        float, typer.Option(min=0, help="Attribution window: a later click counts as none.")
    ] = 72.0,
    negatives_kept: Annotated[
        float,
        typer.Option(min=1e-4, max=1, help="Share of non-clicks kept for training; recorded and corrected."),
    ] = 1.0,
    max_quarantine_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Stop the run when a larger share of rows than this breaks the contract."
        ),
    ] = 0.01,
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="True probabilities of a simulated market, used for evaluation only."),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Files of the test split; without them the test split is the latest part of the log."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="preparation.NAME=VALUE",
            help="Any other choice, such as preparation.fractions={train: 0.7, validation: 0.1, calibration: 0.1, test: 0.1}.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the negative sampling.")] = 0,
    json: AsJson = False,
) -> None:
    """Check, join with clicks, split by time and sample: the data set that models train on.

    Splits are train, validation, calibration and test, in order of time; only the first two are sampled.
    """
    from pydantic import ValidationError

    from clickmill import contract as contracts
    from clickmill.command.settings import nested
    from clickmill.data import PrepareOptions
    from clickmill.data import prepare as prepare_data
    from clickmill.errors import UsageError

    chosen = {
        "window": timedelta(hours=window_hours),
        "negatives_kept": negatives_kept,
        "max_quarantine_share": max_quarantine_share,
        "seed": seed,
        **nested(settings or [], ("preparation",))["preparation"],
    }
    try:
        options = PrepareOptions.model_validate(chosen)
    except ValidationError as error:
        problems = "; ".join(
            f"preparation.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        )
        raise UsageError(problems) from error
    with Bars() as bars:
        dataset = prepare_data(
            impressions,
            contracts.load(contract),
            out,
            clicks=clicks,
            truth=truth,
            test=test,
            options=options,
            progress=bars,
        )
    meta = dataset.meta
    if json:
        print_json(meta.model_dump(mode="json"))
        return
    facts = {
        name: f"{split.rows:,} rows, {split.clicks:,} clicks, {split.start} to {split.end}"
        for name, split in meta.splits.items()
    }
    print_facts(f"Prepared data in {out}", facts)
    words.print(meta.quality.message, markup=False)
    if meta.join:
        words.print(meta.join.message, markup=False)
