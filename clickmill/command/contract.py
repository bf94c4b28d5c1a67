"""`clickmill contract`: check one, draft one from a file, print the JSON Schema for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import AsJson, print_json, result, words

app = typer.Typer(no_args_is_help=True, help="Check, draft and describe feature contracts.")


@app.command()
def check(
    contract: Annotated[Path, typer.Argument(help="Contract YAML.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Also check these files (or folders) against the contract."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows of --data to check.")] = 100_000,
    json: AsJson = False,
) -> None:
    """Check a contract and, with --data, whether files keep to it.

    All problems are listed at once, each with its YAML path, line, value and remedy.
    """
    from rich.table import Table

    from clickmill import contract as contracts

    loaded = contracts.load(contract)
    quality = None
    if data:
        import tempfile

        from clickmill import data as tables

        with tempfile.TemporaryDirectory() as scratch:
            table = tables.read(data, loaded).limit(rows)
            quality = tables.check(
                table,
                loaded,
                max_quarantine_share=1.0,
                quarantine=Path(scratch) / "bad",
                out=Path(scratch) / "good",
                origin=", ".join(map(str, data)),
            )
    if json:
        print_json(
            {
                "name": loaded.name,
                "version": loaded.version,
                "digest": loaded.digest,
                "fields": loaded.model_dump(mode="json")["fields"],
                "quality": quality.model_dump(mode="json") if quality else None,
            }
        )
        return
    table_ = Table(box=None, pad_edge=False)
    table_.add_column("field", overflow="fold", min_width=max(map(len, loaded.fields)))
    for title in ("role", "dtype", "encoding", "legal", "default", "owner"):
        table_.add_column(title)
    for name, field in loaded.fields.items():
        legal = ""
        if field.range:
            low = "" if field.range.min is None else f"{field.range.min:g}"
            high = "" if field.range.max is None else f"{field.range.max:g}"
            legal = f"{low}..{high}"
        elif field.allowed:
            legal = ", ".join(map(str, field.allowed[:4])) + (", ..." if len(field.allowed) > 4 else "")
        kind = field.encoding.kind if field.encoding else "-"
        default = "required" if field.required else "" if field.default is None else str(field.default)
        table_.add_row(name, field.role, field.dtype or "derived", kind, legal, default, field.owner or "")
    result.print(table_)
    words.print(
        f"{contract}: sound; {len(loaded.features)} features, digest {loaded.digest[:12]}", soft_wrap=True
    )
    if quality and data:
        words.print(quality.message, markup=False, soft_wrap=True)
        words.print(
            f"Next: clickmill run {' '.join(map(str, data))} --contract {contract}",
            markup=False,
            soft_wrap=True,
        )


@app.command()
def schema() -> None:
    """Print the JSON Schema of contract files, for completion and checks in editors.

    Put `# yaml-language-server: $schema=contract.schema.json` on a contract's first line.
    """
    from clickmill import contract as contracts

    print_json(contracts.json_schema())


@app.command()
def openapi(
    contract: Annotated[Path, typer.Argument(help="Contract YAML.")],
    model_name: Annotated[
        str | None, typer.Option(help="Model name in URLs; default: the contract's.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Write it as a page of HTML to this file instead; it needs no network."),
    ] = None,
) -> None:
    """Print the OpenAPI 3.1 of an endpoint that serves a bundle of this contract, with the default limits.

    A running endpoint has its own at /openapi.json, with its bundle and limits.
    """
    from clickmill import contract as contracts
    from serving import openapi as openapis

    found = openapis.describe(contracts.load(contract), model_name=model_name)
    if page is None:
        print_json(found)
        return
    page.write_text(openapis.as_page(found))
    words.print(f"{page}: written; open it in a browser", soft_wrap=True)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the contract and of its model; default: the name of the file.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
) -> None:
    """Draft a contract from a data file: roles, types and encodings guessed from names and values.

    The draft loads as it is; every guess carries its reason in `description`. Read it before you train on it.
    """
    from clickmill import contract as contracts
    from clickmill.data.draft import draft
    from clickmill.errors import UsageError

    drafted = contracts.dumps(draft(file, name))
    if out is None:
        typer.echo(drafted, nl=False)
        return
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another --out, or --force to overwrite it")
    out.write_text(drafted)
    words.print(
        f"{out}: drafted. Read its roles and encodings, then: clickmill contract check {out} --data {file}",
        markup=False,
        soft_wrap=True,
    )
