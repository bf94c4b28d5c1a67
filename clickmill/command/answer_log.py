"""Options of the commands that answer: what is logged of it, and where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_PANEL = "Logs and traces"

PredictionLog = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_PANEL,
        help="Folder to log answers in, as Parquet files by day: request, time, bundle, pCTR and features. Personal fields are hashed "
        "with the salt in CLICKMILL_LOG_SALT (16 to 64 bytes). Default: nothing is logged.",
    ),
]
LogEvents = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL,
        help="URL of a broker to send answers to as CloudEvents, in the format of KServe's logger. Personal fields are hashed as in "
        "--prediction-log. Default: none are sent.",
    ),
]
LogShare = Annotated[
    float,
    typer.Option(
        rich_help_panel=_PANEL,
        min=1e-6,
        max=1,
        help="Share of requests to log; whether one is logged is decided by its id.",
    ),
]
LogFeatures = Annotated[
    Literal["values", "digest", "nothing"],
    typer.Option(
        rich_help_panel=_PANEL,
        help="What to log of the features: their values, a digest of them, or nothing.",
    ),
]


def logging(folder: Path | None, events: str | None, share: float, features: str) -> dict[str, Any]:
    """The arguments of `serving.server.serve` that these options are. Raises UsageError for a salt that is none."""
    from clickmill.prediction_log import Kept, Salt
    from serving.prediction_log import LogSettings

    salt = os.environ.get("CLICKMILL_LOG_SALT")
    return {
        "prediction_log": folder,
        "log_events": events,
        "log_settings": LogSettings(share=share, features=Kept(features)),
        "log_salt": Salt(salt.encode()) if salt else None,
    }


__all__ = ["LogEvents", "LogFeatures", "LogShare", "PredictionLog", "logging"]
