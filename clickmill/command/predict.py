"""`clickmill predict`: click probabilities for the rows of a file, by a bundle here or by a running endpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from clickmill.command.console import Bars, words
from clickmill.command.tensorflow_start import start_tensorflow

BATCH = 1024
"""Rows per call: an endpoint's default limit on candidates lies above it."""

Score = Callable[[Any], tuple[Any, Any]]
"""Arrow table to (pctr, logit)."""


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders with the rows to score, in the layout that the contract describes."
        ),
    ],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Score with this bundle, in this process.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Score with the endpoint at this URL instead, such as http://127.0.0.1:8080."),
    ] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", "-c", help="With --url: the contract of the rows.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="With --url: model name; default: the only one served.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Parquet or CSV file for the rows with pctr and logit; default: JSON lines on stdout.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first rows.")] = None,
) -> None:
    """Score the rows of a file.

    Columns that are not model inputs (label, ids, bid) may be absent. A cell that is not of its type stops the command
    and is named; missing values take the contract's defaults, as they do at the endpoint.
    """
    from clickmill.errors import UsageError

    if (bundle is None) == (url is None):
        raise UsageError("give either --bundle (score here) or --url with --contract (ask an endpoint)")
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {out}: must end in .parquet or .csv")
    if bundle is not None:
        from clickmill import bundle as bundles
        from clickmill.features import tensors

        # the engine of endpoints, so that offline and online answers are the same to the bit
        loaded = bundles.load(bundle, engine="twin")
        if loaded.engine == "savedmodel":
            start_tensorflow()

        def score(rows: Any) -> tuple[Any, Any]:
            found = loaded.predict(tensors.from_arrow(rows, loaded.contract))
            return found["pctr"], found["logit"]

        _write(_scored(files, loaded.contract, score, limit), out)
        return
    if contract is None:
        raise UsageError("--url needs --contract, which says how the rows are laid out")
    from clickmill import contract as contracts
    from serving.client import Client
    from serving.rows import json_rows

    with Client(str(url), model_name=model_name) as client:

        def ask(rows: Any) -> tuple[Any, Any]:
            found = client.predict(json_rows(rows))
            return found.pctr, found.logit

        _write(_scored(files, contracts.load(contract), ask, limit), out)


def _scored(files: list[Path], contract: Any, score: Score, limit: int | None) -> Iterator[Any]:
    """Arrow tables of the inputs with pctr and logit, in the order of the file."""
    import pyarrow as pa

    from clickmill import data as tables

    table = tables.read(files, contract, fields=list(contract.inputs))
    if limit is not None:
        table = table.limit(limit)
    with Bars() as bars:
        bars.start("score", None, "rows")
        unknown = {name for name, field in contract.inputs.items() if field.aggregate is not None}
        for batch in table.to_pyarrow_batches(chunk_size=BATCH):
            rows = pa.Table.from_batches([batch])
            _refuse_unreadable(rows)
            rows = rows.select(list(contract.inputs))
            unknown = {name for name in unknown if rows[name].null_count == len(rows)}
            pctr, logit = score(rows)
            bars.advance(len(rows))
            yield rows.append_column("pctr", pa.array(pctr, pa.float64())).append_column(
                "logit", pa.array(logit, pa.float64())
            )
        bars.finish()
    if unknown:
        words.print(
            f"{', '.join(sorted(unknown))}: computed from the past of a log, and not in these files, so that every row was "
            "scored with the default; score the rows of a prepared data set to have them",
            soft_wrap=True,
        )


def _refuse_unreadable(rows: Any) -> None:
    """Offline scoring has no quarantine: a cell that is not of its type would silently become the default."""
    from clickmill.data.conform import UNPARSED
    from clickmill.data.formats import ROW
    from clickmill.errors import DataError

    if UNPARSED not in rows.column_names:
        return
    cells = rows[UNPARSED].combine_chunks()
    # By column: nearly every batch has no such cell, and a loop over its rows would cost more than scoring them.
    first_bad = [
        (part.is_valid().index(True).as_py(), place)
        for place, part in enumerate(cells.flatten())
        if part.null_count < len(part)
    ]
    if first_bad:
        row, place = min(first_bad)
        name, text = cells.type[place].name, cells[row].as_py()[cells.type[place].name]
        raise DataError(
            f"row {rows[ROW][row].as_py()}, field `{name}`: {text!r} is not of the contract's type; mend the row, or let "
            "`clickmill data check` set it aside"
        )


def _write(scored: Iterator[Any], out: Path | None) -> None:
    import json

    if out is None:
        number = 0
        for rows in scored:
            for pctr, logit in zip(rows["pctr"].to_pylist(), rows["logit"].to_pylist(), strict=True):
                sys.stdout.write(json.dumps({"row": number, "pctr": pctr, "logit": logit}) + "\n")
                number += 1
        return
    import pyarrow.csv
    import pyarrow.parquet as pq

    draft = out.with_name(f".{out.name}.partial")
    writer: Any = None
    count = 0
    try:
        for rows in scored:
            if writer is None:
                opener = pq.ParquetWriter if out.suffix == ".parquet" else pyarrow.csv.CSVWriter
                writer = opener(draft, rows.schema)
            writer.write_table(rows)
            count += len(rows)
    finally:
        if writer is not None:
            writer.close()
    if writer is not None:
        draft.replace(out)
    words.print(f"{count:,} rows scored" + (f", in {out}" if writer is not None else "; nothing to write"))
