"""Lengths of time in a contract: `15min`, `24h`, `7d` in, seconds out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer


def _parse(value: Any) -> Any:
    if isinstance(value, str):
        import pandas as pd

        try:
            return pd.Timedelta(value).to_pytimedelta()
        except ValueError:
            raise ValueError(
                f"{value!r} is not a duration; write for example '15min', '24h' or '7d'"
            ) from None
    return value


def _write(value: timedelta) -> str:
    # `:g` would turn twelve days into 1.0368e+06 s, which is no duration to the reader.
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse),
    PlainSerializer(_write, return_type=str),
    Field(json_schema_extra={"examples": ["15min", "24h", "7d"]}),
]
