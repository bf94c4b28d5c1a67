"""`clickmill features`: load the online store that endpoints look users and ads up in, and see what lies there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from clickmill.command.console import AsJson, Bars, print_facts, print_json, result, words

app = typer.Typer(no_args_is_help=True, help="Load the online feature store, and look values up in it.")

Target = Annotated[
    str,
    typer.Option(
        "--to",
        help="redis://[USER:PASSWORD@]HOST:PORT/DB, rediss://... (TLS), unix://SOCKET, or the path of a file.",
    ),
]


@app.command()
def publish(
    source: Annotated[
        list[Path], typer.Argument(help="A prepared data set, or files and folders of the impression log.")
    ],
    to: Target,
    contract: Annotated[
        Path | None,
        typer.Option("--contract", "-c", help="With logs: contract YAML. A data set has its own."),
    ] = None,
    clicks: Annotated[
        list[Path] | None,
        typer.Option(help="With logs: click log (Parquet or CSV: impression id, click time)."),
    ] = None,
    window_hours: Annotated[
        float, typer.Option(min=0, help="With logs: attribution window; a later click counts as none.")
    ] = 72.0,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"],
            help="With logs: the instant, UTC, that values are true at; nothing later counts. Default: right after the last impression.",
        ),
    ] = None,
    allow_older: Annotated[
        bool, typer.Option(help="Replace features even if the stored ones are newer: a deliberate step back.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Only show what would be written.")] = False,
    json: AsJson = False,
) -> None:
    """Load the store with what was known of every user and ad at the end of the data.

    Readers see the old features or the new ones, never some of each; the same features twice are written once. What is
    kept: the contract's fields with `aggregate` or `lookup_by`.
    """
    import tempfile

    from clickmill import contract as contracts
    from clickmill import data
    from clickmill.errors import UsageError

    with tempfile.TemporaryDirectory(prefix="clickmill-features-") as scratch:
        if _is_dataset(source):
            given = {"--contract": contract, "--clicks": clicks, "--as-of": as_of}
            wrong = [option for option, value in given.items() if value is not None]
            if wrong:
                raise UsageError(f"{', '.join(wrong)}: only with logs; the data set {source[0]} has it all")
            dataset = data.PreparedDataset.open(source[0])
            _load(dataset.online, dataset.contract, to, allow_older, dry_run, json)
            return
        if contract is None:
            raise UsageError(
                f"{source[0]}: is no prepared data set; for logs give --contract, which says how they are laid out"
            )
        loaded = contracts.load(contract)
        _shelf(to, loaded).current()  # an address that does not answer is named before the logs are read
        with Bars() as bars:
            online, quality = data.online_of_logs(
                source,
                loaded,
                Path(scratch) / "online",
                clicks=clicks,
                as_of=as_of and as_of.replace(tzinfo=UTC),
                options=data.PrepareOptions(window=timedelta(hours=window_hours)),
                progress=bars,
            )
        if quality.quarantined:
            # The file with the bad rows is gone with the scratch folder; `data check` writes it where it stays.
            words.print(quality.model_copy(update={"quarantine": None}).message, markup=False, soft_wrap=True)
        _load(online, loaded, to, allow_older, dry_run, json)


@app.command()
def show(
    by: Annotated[str, typer.Argument(help="Name of the id field: user_id, ad_id.")],
    ids: Annotated[list[str], typer.Argument(help="The ids to look up.")],
    source: Annotated[str, typer.Option("--from", help="The store: a Redis URL, or the path of a file.")],
    contract: Annotated[
        Path,
        typer.Option(
            "--contract", "-c", help="Contract YAML, or a prepared data set or bundle with one in it."
        ),
    ],
    json: AsJson = False,
) -> None:
    """Show what an endpoint would read for some users or ads now: each value, and the reason where it is the default."""
    import asyncio

    from prometheus_client import CollectorRegistry

    from clickmill import contract as contracts
    from clickmill.errors import UsageError
    from serving.features import FeatureMetrics, Lookup, Outcome, store_at

    loaded = contracts.load(contract / "contract.yaml" if contract.is_dir() else contract)
    if by not in loaded.entities:
        raise UsageError(
            f"contract `{loaded.name}` keeps nothing under `{by}`; it keeps fields under: {', '.join(loaded.entities) or 'nothing'}"
        )

    async def look() -> Any:
        store = store_at(source, loaded.name)
        lookup = Lookup(loaded, store, FeatureMetrics(CollectorRegistry()))
        try:
            found = await lookup.find({by: ids}, deadline_s=5.0)
            if found.outcome is not Outcome.OK:
                await store.read({by: ids})  # raises what the lookup only counts
            return found
        finally:
            await lookup.close()

    found = asyncio.run(look())
    document = {
        "version": found.version,
        "as_of": found.as_of,
        by: {
            i: {
                name: {"value": _value(values[k]), "default_because": found.reasons[name][k]}
                for name, values in found.raw.items()
            }
            for k, i in enumerate(ids)
        },
    }
    if json:
        print_json(document)
        return
    for i, fields in document[by].items():
        facts = {
            name: f"{f['value']}" + (f"   (default: {f['default_because']})" if f["default_because"] else "")
            for name, f in fields.items()
        }
        print_facts(f"{by} {i}", facts)
    words.print(
        f"publication {found.version}, as of {found.as_of:%Y-%m-%d %H:%M:%S} UTC"
        if found.version
        else "nothing is published there"
    )


def _load(online: Any, contract: Any, to: str, allow_older: bool, dry_run: bool, json: bool) -> None:
    from serving.features import encoded, publication_of, refuse_older

    shelf = _shelf(to, contract)
    current = shelf.current()
    with Bars() as bars:
        publication = publication_of(online, contract, bars)
        same = current is not None and current.version == publication.version
        written = False
        if dry_run:
            refuse_older(current, publication, shelf.address, allow_older=allow_older)
        else:
            rows = {by: encoded(online, by) for by in publication.entities}
            written = shelf.put(publication, rows, allow_older=allow_older, progress=bars)
    document = {
        "store": shelf.address,
        "written": written,
        "replaces": current.version if current and not same else None,
        **publication.model_dump(mode="json", exclude={"definitions"}),
    }
    if json:
        print_json(document)
        return
    ids = {by: f"{e.ids:,} ids: {', '.join(e.fields)}" for by, e in publication.entities.items()}
    before = f"{current.version}, as of {current.as_of:%Y-%m-%d %H:%M:%S} UTC" if current else "nothing"
    title = "Already in" if same else "Would be written to" if dry_run else "Published to"
    print_facts(
        f"{title} {shelf.address}",
        {
            "version": publication.version,
            "as of": f"{publication.as_of:%Y-%m-%d %H:%M:%S.%f} UTC",
            "before": before,
            **ids,
        },
    )
    if dry_run:
        for by in publication.entities:
            for i, row in list(next(iter(encoded(online, by, rows=3)), {}).items()):
                result.print(f"  {by} {i.decode()}: {row.decode()}", markup=False, soft_wrap=True)


def _shelf(to: str, contract: Any) -> Any:
    from serving.features import shelf_at

    return shelf_at(to, contract.name)


def _is_dataset(source: list[Path]) -> bool:
    from clickmill.data.prepared import DATASET

    return len(source) == 1 and (source[0] / DATASET).is_file()


def _value(value: Any) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_value(v) for v in plain if v not in (b"", -(2**63))]
    return plain.decode() if isinstance(plain, bytes) else plain
