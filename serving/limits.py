"""What a request may cost before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Limits(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Sizes above which a request is answered 413 (gRPC RESOURCE_EXHAUSTED) instead of being scored."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Bytes of an HTTP body or a gRPC message. 2,000 candidates of 40 fields in JSON are about 2 MB."""
    max_rows: int = Field(default=2000, ge=1)
    """Instances (candidates) in one request. 1,000 take about 20 ms on one core; more belong in a batch job."""
    max_string_bytes: int = Field(default=4096, ge=16)
    """Bytes of one string. An id is 36; more is a document sent into the wrong field."""
    body_seconds: float = Field(default=10.0, gt=0)
    """Time a client has to send its whole body; slower ones are answered 408."""
    drain_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Bytes of an oversized body read and thrown away, so that its sender gets the answer and not a reset."""


MAX_JSON_DEPTH = 1024
"""Depth at which the JSON parser itself stops. What parses is held to the shape of the protocol, at most 5 deep."""
