"""`clickmill pipeline`: the compiled pipeline on a Kubeflow Pipelines backend."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, print_facts, print_json, words
from clickmill.command.settings import nested
from clickmill.errors import ClickmillError, UsageError

if TYPE_CHECKING:
    from pipelines.remote import Remote, Uploaded

app = typer.Typer(
    no_args_is_help=True, help="Upload, start and schedule the training pipeline on Kubeflow Pipelines."
)

NAME = "clickmill-ctr"
TOKEN = "KFP_TOKEN"

Package = Annotated[
    Path,
    typer.Argument(help="Compiled pipeline: pipelines/compiled/ctr.yaml, or one of your own.", exists=True, dir_okay=False),
]  # fmt: skip
Host = Annotated[
    str, typer.Option(envvar="KFP_HOST", help="URL of the Kubeflow Pipelines API. A bearer token is read from KFP_TOKEN.")
]  # fmt: skip
Namespace = Annotated[
    str, typer.Option(help="Your namespace, on a Kubeflow with several users.", envvar="KFP_NAMESPACE")
]
Name = Annotated[str, typer.Option(help="Name of the pipeline on that server.")]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PARAMETER=VALUE",
        help="An argument of the pipeline, YAML: contract=/mnt/ctr.yaml, impressions=[/mnt/logs/*.parquet], gate.max_ece=0.02.",
    ),
]
ServiceAccount = Annotated[
    str, typer.Option(help="ServiceAccount of the steps; default: the backend's (pipeline-runner).")
]


@app.command()
def upload(
    package: Package, host: Host, namespace: Namespace = "", name: Name = NAME, json: AsJson = False
) -> None:
    """Upload the pipeline. Uploading the same content again changes nothing: a version is named by the digest of its YAML."""
    _, uploaded = _uploaded(package, host, namespace, name)
    _tell(
        json,
        name,
        {
            "pipeline": uploaded.pipeline,
            "version": uploaded.name,
            "version id": uploaded.version,
            "new": uploaded.new,
        },
    )


@app.command()
def run(
    package: Package,
    host: Host,
    namespace: Namespace = "",
    name: Name = NAME,
    settings: Arguments = None,
    service_account: ServiceAccount = "",
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait for the run to end; 0: only start it.", metavar="SECONDS"),
    ] = 0.0,
    json: AsJson = False,
) -> None:
    """Upload the pipeline and start a run. With --wait the exit status is 1 unless the run succeeded."""
    arguments = _arguments(package, settings)
    remote, uploaded = _uploaded(package, host, namespace, name)
    title = f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    started = remote.run(uploaded, title, arguments, service_account=service_account)
    state = ""
    if wait:
        words.print(f"run {started} is under way")
        state = remote.wait(started, wait)
    _tell(json, title, {"run": started, "version": uploaded.name, **({"state": state} if wait else {})})
    if wait and state.upper() != "SUCCEEDED":
        raise ClickmillError(f"the run {started} ended as {state}; its report step says why")


@app.command()
def schedule(
    package: Package,
    host: Host,
    cron: Annotated[
        str,
        typer.Option(help="Schedule in six fields, seconds first: '0 0 3 * * *' is every day at 3:00 UTC."),
    ],
    namespace: Namespace = "",
    name: Name = NAME,
    settings: Arguments = None,
    service_account: ServiceAccount = "",
    json: AsJson = False,
) -> None:
    """Upload the pipeline and run it on a schedule. A schedule of the same name is replaced. Runs never overlap, and missed ones are not made up for."""
    if len(cron.split()) != 6:
        raise UsageError(
            f"--cron must have six fields, seconds first, such as '0 0 3 * * *' for every day at 3:00; got {cron!r}"
        )
    arguments = _arguments(package, settings)
    remote, uploaded = _uploaded(package, host, namespace, name)
    made = remote.schedule(uploaded, name, cron, arguments, service_account=service_account)
    _tell(json, name, {"schedule": made, "cron": cron, "version": uploaded.name})


def _uploaded(package: Path, host: str, namespace: str, name: str) -> tuple[Remote, Uploaded]:
    from pipelines.remote import Remote

    remote = Remote(host, namespace=namespace, token=os.environ.get(TOKEN, ""))
    return remote, remote.upload(package, name)


def _arguments(package: Path, settings: list[str] | None) -> dict[str, Any]:
    from pipelines.remote import check_arguments

    given = nested([f"pipeline.{each}" for each in settings or []], ["pipeline"])
    return check_arguments(package, given["pipeline"])


def _tell(json: bool, title: str, facts: dict[str, Any]) -> None:
    if json:
        print_json(facts)
    else:
        print_facts(title, {key: str(value) for key, value in facts.items()})
