"""Options that the commands which answer requests share: what is logged and where, which ads are tried, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_LOGS = "Logs and traces"
_RANKINGS = "Rankings"

PredictionLog = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_LOGS,
        help="Folder to log answers in, as Parquet files by day: request, time, bundle, pCTR and features. Personal fields are hashed "
        "with the salt in CLICKMILL_LOG_SALT (16 to 64 bytes). Default: nothing is logged.",
    ),
]
LogEvents = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_LOGS,
        help="URL of a broker to send answers to as CloudEvents, in the format of KServe's logger. Personal fields are hashed as in "
        "--prediction-log. Default: none are sent.",
    ),
]
LogShare = Annotated[
    float,
    typer.Option(
        rich_help_panel=_LOGS,
        min=1e-6,
        max=1,
        help="Share of requests to log; whether one is logged is decided by its id.",
    ),
]
LogFeatures = Annotated[
    Literal["values", "digest", "nothing"],
    typer.Option(
        rich_help_panel=_LOGS,
        help="What to log of the features: their values, a digest of them, or nothing.",
    ),
]
Explore = Annotated[
    Literal["off", "thompson", "ucb"],
    typer.Option(
        rich_help_panel=_RANKINGS,
        help="Try ads that the bundle hardly knows, by a draw (which the prediction log can be judged by) or by an upper bound; pCTR and "
        "prices stay the model's. clickmill experiment off-policy reads what is logged (docs/auctions.md).",
    ),
]
ExploreBudget = Annotated[
    float,
    typer.Option(
        rich_help_panel=_RANKINGS,
        min=0,
        max=0.5,
        help="Share of expected revenue that --explore may give up.",
    ),
]
DrainSeconds = Annotated[
    float,
    typer.Option(
        min=0, help="Seconds during which requests are still answered after SIGTERM, while readiness says no."
    ),
]


def log_arguments(folder: Path | None, events: str | None, share: float, features: str) -> dict[str, Any]:
    """The arguments of `serving.server.serve` that these options are. Raises UsageError for a salt that is none."""
    from clickmill.prediction_log import Kept, Salt
    from serving.prediction_log import LogSettings

    return {
        "prediction_log": folder,
        "log_events": events,
        "log_settings": LogSettings(share=share, features=Kept(features)),
        "log_salt": Salt.of_environment(),
    }


def exploration(explore: str, budget: float) -> dict[str, Any] | None:
    """The ranker's setting of that name; None where nothing is tried."""
    return None if explore == "off" else {"explorer": explore, "cost": budget}


__all__ = [
    "DrainSeconds",
    "Explore",
    "ExploreBudget",
    "LogEvents",
    "LogFeatures",
    "LogShare",
    "PredictionLog",
    "exploration",
    "log_arguments",
]
