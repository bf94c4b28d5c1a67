"""`clickmill model`: what a model would cost, before it is trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_facts, print_json, result, words
from clickmill.command.learned_space import learned_space
from clickmill.command.settings import nested, typed
from clickmill.command.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    from clickmill.contract import FeatureContract
    from clickmill.features import FeatureSpace

app = typer.Typer(no_args_is_help=True, help="Estimate the size of a model before training it.")


@app.callback()
def _group() -> None:
    """Estimate the size of a model before training it."""  # keeps `size` a word of its own while it is the only one


@app.command()
def size(
    contract: Annotated[Path, typer.Argument(help="Contract YAML.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Prepared dataset of this contract (clickmill data prepare): count the values it has, not the most it may have."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model to measure: lr, fm, wide_deep, dcn, dcn_v2, dlrm, din, dien.")
    ] = "dcn_v2",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="A setting of the model or of training that its size depends on: model.dim=16, training.embedding_optimizer=adam, "
            "training.linear_optimizer=ftrl.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Print rows, parameters and bytes of a model before any of its memory is taken.

    Without --data it is an upper bound: every vocabulary has [bold]max_size[/bold] values. "in training" is the weights, the optimizers'
    state and 4 bytes per row that count how often the train split names it; TensorFlow and the batches come on top.
    """
    from clickmill import contract as contracts
    from clickmill.training import TrainingConfig

    loaded = contracts.load(contract)
    chosen = nested(settings or [], ["model", "training"])
    training = typed("training", TrainingConfig, chosen["training"])
    start_tensorflow()
    from clickmill.models.size import MOST_ROWS, estimate, in_bytes

    found = estimate(
        _space(loaded, data),
        model,
        chosen["model"],
        embedding_optimizer=training.embedding_optimizer,
        linear_optimizer=training.linear_optimizer,
    )
    if json:
        sums = {
            "table_parameters": found.table_parameters,
            "parameters": found.parameters,
            "weight_bytes": found.weight_bytes,
            "optimizer_bytes": found.optimizer_bytes,
            "checkpoint_bytes": found.checkpoint_bytes,
            "training_bytes": found.training_bytes,
            "export_bytes": found.export_bytes,
        }
        print_json({**asdict(found), **sums, "upper_bound": data is None})
        return
    from rich.table import Table

    table = Table("field", "encoding", box=None, pad_edge=False)
    for title in ("rows", "parameters", "weights"):
        table.add_column(title, justify="right")
    for field in found.fields:
        weights = in_bytes(4 * field.parameters)
        table.add_row(field.field, field.kind, f"{field.rows:,}", f"{field.parameters:,}", weights)
    result.print(table)
    result.print()
    print_facts(
        f"{model}, {'upper bound' if data is None else 'by the data'}",
        {
            "rows": found.table_rows,
            "width of a row": " + ".join(map(str, found.widths)) or "-",
            "parameters": found.parameters,
            "  in tables": found.table_parameters,
            "  elsewhere": found.dense_parameters + found.other_parameters,
            "weights": in_bytes(found.weight_bytes),
            "optimizer state": in_bytes(found.optimizer_bytes),
            "a checkpoint": in_bytes(found.checkpoint_bytes),
            "in training": in_bytes(found.training_bytes),
            "exported": in_bytes(found.export_bytes) + (" and vocabularies" if data is None else ""),
        },
    )
    if found.table_rows > MOST_ROWS:
        words.print(
            f"[yellow]too many rows[/]: {found.table_rows:,}, and a table numbers at most {MOST_ROWS:,}; "
            "lower max_size or buckets, or encode large ids as compositional"
        )


def _space(contract: FeatureContract, data: Path | None) -> FeatureSpace:
    from clickmill.errors import UsageError
    from clickmill.features.bound import largest_space

    if data is None:
        return largest_space(contract)
    from clickmill.data import PreparedDataset

    dataset = PreparedDataset.open(data)
    if dataset.contract.digest != contract.digest:
        raise UsageError(f"{data}: was prepared by another contract than this one; prepare the data again")
    return learned_space(dataset)
