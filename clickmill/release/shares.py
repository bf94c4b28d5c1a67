"""Who gets traffic behind one address of a cluster, as the release operator says it and the router reads it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHARES = "shares"
"""Key of a ConfigMap that holds it, as JSON."""

Service = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class Shares(BaseModel):
    """Of an endpoint. `model_dump_json` is its form in storage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    percent: dict[Service, Annotated[int, Field(ge=1, le=100)]]
    """Service to its share of the requests; adds up to 100."""
    mirror: Service | None = None
    """Service that gets a copy of each request; nobody waits for what it answers."""
    port: int = Field(default=80, ge=1, le=65535)
    """Of all of these Services."""

    @model_validator(mode="after")
    def _adds_up(self) -> Shares:
        if sum(self.percent.values()) != 100:
            raise ValueError(f"shares must add up to 100; got {self.percent}")
        return self


__all__ = ["SHARES", "Shares"]
