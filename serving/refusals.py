"""Why a request gets no prediction, and how each protocol says so: one table for HTTP, gRPC and the metrics.

RequestError and RequestTooLarge come from the library; the rest exist only where there is a wire.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from clickmill.errors import ClickmillError, RequestError, RequestTooLarge


class MalformedRequest(RequestError):
    """The bytes are not what the protocol says: broken JSON, a missing key, a buffer of the wrong length."""


class WrongContentType(RequestError):
    """The body is announced as something else than the protocol reads."""


class SlowRequest(RequestError):
    """The body did not arrive within `Limits.body_seconds`."""


class UnknownModel(ClickmillError):
    """No model of this name or version is served here."""


class UnknownSignature(ClickmillError):
    """The model has no signature of this name for this call; TF Serving's protocol alone has signatures."""


class NotReady(ClickmillError):
    """No bundle is loaded and warm yet, or the server drains."""


class Overloaded(ClickmillError):
    """As many requests are inside as the endpoint can answer in good time; this one is turned away at once."""


class DeadlinePassed(ClickmillError):
    """The request's time was over before it could be scored; it was not."""


class PredictorUnavailable(ClickmillError):
    """The predictor behind a ranker does not answer, or with something else than scores; names its address."""


class NotOffered(ClickmillError):
    """The protocol knows the call, this server does not do it."""


class NotFinite(ClickmillError):
    """The graph gave NaN or infinity for a legal request: the bundle is broken, not the request."""


@dataclass(frozen=True)
class Refusal:
    """How one kind of error is answered. `grpc` is the name of a grpc.StatusCode, `reason` the metric's label."""

    http: int
    grpc: str
    reason: str


_TABLE: tuple[tuple[type[Exception], Refusal], ...] = (
    (RequestTooLarge, Refusal(413, "RESOURCE_EXHAUSTED", "too_large")),
    (WrongContentType, Refusal(415, "INVALID_ARGUMENT", "content_type")),
    (SlowRequest, Refusal(408, "DEADLINE_EXCEEDED", "slow_body")),
    (MalformedRequest, Refusal(400, "INVALID_ARGUMENT", "malformed")),
    (RequestError, Refusal(400, "INVALID_ARGUMENT", "invalid")),
    (UnknownModel, Refusal(404, "NOT_FOUND", "unknown_model")),
    (UnknownSignature, Refusal(404, "FAILED_PRECONDITION", "unknown_signature")),
    (NotReady, Refusal(503, "UNAVAILABLE", "not_ready")),
    (Overloaded, Refusal(503, "UNAVAILABLE", "overload")),
    (DeadlinePassed, Refusal(504, "DEADLINE_EXCEEDED", "deadline")),
    (PredictorUnavailable, Refusal(503, "UNAVAILABLE", "predictor")),
    (NotOffered, Refusal(501, "UNIMPLEMENTED", "not_offered")),
    (NotFinite, Refusal(500, "INTERNAL", "not_finite")),
)
_BUG = Refusal(500, "INTERNAL", "internal")


def refusal_of(error: Exception) -> Refusal:
    """The answer to an error; anything not raised on purpose is an internal error."""
    return next((refusal for kind, refusal in _TABLE if isinstance(error, kind)), _BUG)


def is_fault(error: Exception) -> bool:
    """Whether the error is ours and belongs in the log: not that of the caller, nor a state of the endpoint a metric counts."""
    return refusal_of(error).grpc == "INTERNAL"


def words_of(error: Exception) -> str:
    """What the caller is told. The text of a bug stays in our log: it may quote what the caller should not see."""
    return (
        str(error) if isinstance(error, ClickmillError) else "Internal error; the server's log has the trace."
    )


def body_of(error: Exception) -> bytes:
    """JSON body of an HTTP refusal: `error` as KServe has it, and `reason` for machines."""
    return orjson.dumps({"error": words_of(error), "reason": refusal_of(error).reason})
