"""`clickmill run`: the pipeline on this machine, from logs to a deployed bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, Bars, print_facts, print_json, words
from clickmill.command.settings import nested

if TYPE_CHECKING:
    from pipelines.local import RunOptions, RunResult
    from pipelines.local_steps import StepEvent

TOPICS = ("training", "model", "variant", "preparation", "export", "gate")


def run(
    impressions: Annotated[list[str], typer.Argument(help="Impression log: files, folders or patterns.")],
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="Contract YAML (clickmill contract init).")
    ],
    workspace: Annotated[
        Path,
        typer.Option(
            "--workspace",
            "-w",
            help="Folder for everything the run writes. Running again in the same folder resumes, and reuses finished steps.",
        ),
    ] = Path("out/run"),
    clicks: Annotated[
        list[str] | None,
        typer.Option(
            help="Click log to join with the impressions; without it, the impressions must carry a label."
        ),
    ] = None,
    truth: Annotated[
        list[str] | None,
        typer.Option(help="True probabilities of a simulated market, used for evaluation only."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            help="Files of the test split; without them the test split is the latest part of the log."
        ),
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            help="Models to train, comma-separated: lr, fm, wide_deep, dcn, dcn_v2, dlrm, din, dien, or variants named with --set "
            "variant.NAME.model=dcn_v2 variant.NAME.training.l2=10."
        ),
    ] = "lr,dcn_v2",
    negatives_kept: Annotated[
        float,
        typer.Option(
            min=1e-4,
            max=1,
            help="Share of non-clicks kept for training; predictions are corrected for it in closed form.",
        ),
    ] = 1.0,
    positive_weight: Annotated[
        float,
        typer.Option(
            min=1,
            max=100,
            help="Weight of a click in the loss (w+); predictions are corrected for it in closed form.",
        ),
    ] = 1.0,
    max_quarantine_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Stop the run when a larger share of rows than this breaks the contract."
        ),
    ] = 0.01,
    store: Annotated[
        Path | None, typer.Option(help="Model store that the endpoint watches; default: WORKSPACE/store.")
    ] = None,
    warm_start: Annotated[
        bool,
        typer.Option(
            "--warm-start/--from-scratch",
            help="Start from the champion's weights with a vocabulary that has grown; the first run of a store starts from scratch.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of everything random: the same seed gives the same result.")
    ] = 0,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="YAML file with settings by topic, such as the one clickmill sweep writes. --set overrides it.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="Any other setting, such as training.epochs=3, export.rows=int8, gate.max_ece=0.05.",
        ),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache", help="Reuse the result of a step whose code and inputs have not changed."
        ),
    ] = True,
    json: AsJson = False,
) -> None:
    """Train on a log and deploy the result if it may replace the champion.

    The steps are: validate, preprocess, train and calibrate each model, judge the best one against the champion, deploy. The same
    pipeline runs on Kubeflow (pipelines/compiled/ctr.yaml). Ctrl-C saves a checkpoint; the same command continues from it.

    [bold]Exit status[/bold]: 0 deployed, 3 the gate kept the champion, 1 a step failed, 130 interrupted.
    """
    from clickmill.errors import GateRefused
    from pipelines.local import RunOptions

    topics = nested(settings or [], TOPICS, settings_file)
    options = RunOptions(
        contract=contract,
        impressions=tuple(impressions),
        workspace=workspace,
        clicks=tuple(clicks or ()),
        truth=tuple(truth or ()),
        test=tuple(test or ()),
        models=tuple(name.strip() for name in models.split(",") if name.strip()),
        variants=topics["variant"],
        model_configs=topics["model"],
        training=topics["training"],
        preparation=topics["preparation"],
        negatives_kept=negatives_kept,
        positive_weight=positive_weight,
        max_quarantine_share=max_quarantine_share,
        seed=seed,
        export=topics["export"],
        gate=topics["gate"],
        store=store,
        warm_start=warm_start,
        cache=cache,
    )
    result = run_watched(options)
    if json:
        print_json(result.__dict__)
    else:
        print_facts("Run", facts(result))
    if result.version is None:
        raise GateRefused(result.reasons[0])


def run_watched(options: RunOptions) -> RunResult:
    """Run the pipeline with a bar and a line per step on stderr."""
    from pipelines.local import run as run_pipeline

    with Bars() as bars:
        return run_pipeline(options, progress=bars, watch=_telling(bars))


def _telling(bars: Bars) -> Callable[[StepEvent], None]:
    marks = {
        "done": "[green]✓[/]",
        "cached": "[blue]=[/]",
        "failed": "[red]✗[/]",
        "interrupted": "[yellow]![/]",
    }

    def tell(event: StepEvent) -> None:
        if event.state == "started":
            return
        time = "from an earlier run" if event.state == "cached" else f"{event.seconds:.1f} s"
        words.print(f"{marks[event.state]} {event.step:<24} [dim]{time}[/]")

    return tell


def facts(result: RunResult) -> dict[str, Any]:
    """What a person wants to know first, and where to look next."""
    if result.version is None:
        deployed = f"no; to try the bundle all the same: clickmill serve {result.best}"
    else:
        deployed = f"version {result.version} in {result.store}; next: clickmill serve {result.store}"
    return {
        "decision": result.decision,
        "because": result.reasons[0],
        "checks": "\n".join(result.reasons[1:]),
        "best model": result.best_model,
        **{name: value for name, value in result.metrics.items() if isinstance(value, int | float)},
        "deployed": deployed,
        "bundle": result.best,
        "prepared dataset": result.dataset,
        "model card": result.card,
        "data quality": result.quality_report,
        "report": result.report,
    }
