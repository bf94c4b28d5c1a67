"""Why a request gets no prediction, and how each protocol says so: one table for HTTP, gRPC and the metrics.

RequestError and RequestTooLarge come from the library; the rest exist only where there is a wire.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from urllib.parse import quote

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
RETRY_AFTER_SECONDS = 1
"""When to ask again after an UNAVAILABLE or 503."""
MOST_WORDS = 2000
"""Characters of a refusal. They quote what was sent, and the head of a gRPC answer holds 8 KB."""
_LONGEST_NAME = 100
PREFIX = "x-clickmill-"
"""Of our headers and metadata."""
_BUG = Refusal(500, "INTERNAL", "internal")


def refusals() -> tuple[tuple[type[Exception], Refusal], ...]:
    """The table: kinds of errors and how each is answered, the narrower kind before the wider."""
    return _TABLE


def refusal_of(error: Exception) -> Refusal:
    """The answer to an error; anything not raised on purpose is an internal error."""
    return next((refusal for kind, refusal in _TABLE if isinstance(error, kind)), _BUG)


def is_fault(error: Exception) -> bool:
    """Whether the error is ours and belongs in the log: not that of the caller, nor a state of the endpoint a metric counts."""
    return refusal_of(error).grpc == "INTERNAL"


def words_of(error: Exception) -> str:
    """What the caller is told. The text of a bug stays in our log: it may quote what the caller should not see."""
    if not isinstance(error, ClickmillError):
        return "Internal error; the server's log has the trace."
    words = _text(str(error))
    return words if len(words) <= MOST_WORDS else f"{words[: MOST_WORDS - 3]}..."


def place_of(error: Exception) -> dict[str, str | int]:
    """Where in the request the problem is, for programs: `path`, `field`, `row`, as far as there is one."""
    if not isinstance(error, RequestError):
        return {}
    found = {"path": error.path, "field": error.field and error.field[:_LONGEST_NAME]}
    place: dict[str, str | int] = {key: _text(value) for key, value in found.items() if value is not None}
    return place if error.row is None else place | {"row": error.row}


def body_of(error: Exception) -> bytes:
    """JSON body of an HTTP refusal: `error` as KServe has it, `reason` for machines, and the place of what is wrong."""
    return orjson.dumps({"error": words_of(error), "reason": refusal_of(error).reason, **place_of(error)})


def details_of(error: Exception) -> str:
    """`words_of`, short enough for the head of a gRPC answer, where all but printable ASCII takes three bytes a byte."""
    words = words_of(error)
    while len(quote(words, safe=string.printable)) > MOST_WORDS:
        words = words[: len(words) * 3 // 4]
    return words


def metadata_of(error: Exception) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of a gRPC refusal: what `body_of` has beside the words, as `x-clickmill-reason`, `-path`, `-field`, `-row`;
    and gRPC's own word for Retry-After.

    Metadata are printable ASCII; other characters are escaped.
    """
    refusal = refusal_of(error)
    told = {"reason": refusal.reason, **place_of(error)}
    found = tuple((PREFIX + key, _ascii(str(value))) for key, value in told.items())
    if refusal.grpc == "UNAVAILABLE":
        return (*found, ("grpc-retry-pushback-ms", str(RETRY_AFTER_SECONDS * 1000)))
    return found


def _ascii(text: str) -> str:
    return re.sub("[^ -~]", "?", text.encode("ascii", "backslashreplace").decode())


def _text(value: str) -> str:
    # KServe's own JSON reader lets lone surrogates through, which nobody can write again
    return value.encode("utf-8", "replace").decode()
