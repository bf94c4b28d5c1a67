"""`clickmill bundle`: what is in a bundle, and whether it is still what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import AsJson, print_facts, print_json, words
from clickmill.command.tensorflow_start import start_tensorflow

app = typer.Typer(no_args_is_help=True, help="Inspect bundles and verify them.")

BundlePath = Annotated[Path, typer.Argument(help="Folder of a bundle (holds manifest.json).")]


@app.command()
def show(path: BundlePath, json: AsJson = False) -> None:
    """Print the model, data, metrics and lineage of a bundle. Reads only the manifest."""
    from clickmill.bundle import read_manifest

    manifest = read_manifest(path)
    if json:
        print_json(manifest.model_dump(mode="json"))
        return
    lineage = manifest.lineage
    print_facts(
        f"Bundle {path}",
        {
            "name": manifest.name,
            "model": manifest.model.name,
            "created": manifest.created,
            "digest": manifest.digest,
            **{f"test {name}": value for name, value in manifest.metrics.items()},
            "contract": lineage.contract_digest,
            "data": lineage.data_digest,
            "parent": lineage.parent,
            "negatives kept": lineage.negatives_kept,
            "positive weight": lineage.positive_weight,
            "code": lineage.code_version,
            "versions": ", ".join(f"{k} {v}" for k, v in manifest.versions.items()),
            "files": len(manifest.files),
            "bytes": sum(file.bytes for file in manifest.files.values()),
        },
    )


@app.command()
def verify(
    path: BundlePath,
    golden: Annotated[
        bool,
        typer.Option("--golden/--no-golden", help="Also load the graph and replay its golden predictions."),
    ] = True,
    json: AsJson = False,
) -> None:
    """Check every file against its sha256, look for foreign files, replay the golden predictions.

    Exit status 1 names the first file that is altered, missing or foreign.
    """
    from clickmill import bundle as bundles

    manifest = bundles.verify(path)
    rows = None
    if golden:
        start_tensorflow()
        loaded = bundles.load(path, verify=False)
        loaded.check_golden()
        rows = loaded.golden_rows
    if json:
        print_json(
            {"digest": manifest.digest, "files": len(manifest.files), "golden_rows": rows, "sound": True}
        )
        return
    replayed = f", {rows} golden predictions reproduced" if golden else ""
    words.print(
        f"{path}: sound; {len(manifest.files)} files as written{replayed}; digest {manifest.digest[:12]}"
    )
