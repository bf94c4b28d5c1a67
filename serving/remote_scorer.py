"""A bundle whose graph runs in another process: the scorer of a ranker (KServe's transformer) that asks a predictor by gRPC.

One call a ranking, user and context once, within the time the ranking has, and no second try: what a retry would cost is what the fallback
is for. A predictor that fails is left alone for a moment, as a feature store is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import grpc
import numpy as np

from clickmill.contract import FeatureContract
from serving.caller import FROM_RANKER
from serving.features.breaker import Breaker, BreakerPolicy
from serving.in_service import Raw, Scores
from serving.refusals import PredictorUnavailable

DEFAULT_SECONDS = 1.0
"""Time of a call whose request has no deadline."""

_REASON = "x-clickmill-reason"
_CHANNEL = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC's own pauses grow to two minutes: a predictor that is back would be left alone that long
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
)

_until: ContextVar[float | None] = ContextVar("until", default=None)


@contextmanager
def due(seconds: float | None) -> Iterator[None]:
    """Calls of the request at hand end within `seconds` from now; None leaves them the default."""
    token = _until.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


class Asked(Protocol):
    """How a predictor is asked: a request of raw tensors to a message, and its answer back."""

    def ask(self, raw: Raw, signature: str, timeout: float) -> Mapping[str, np.ndarray]:
        """pctr and logit by name. Raises grpc.RpcError, and KeyError or ValueError for an answer of another form."""
        ...


class V2:
    """KServe's V2 over gRPC, as our own runtime answers it."""

    def __init__(self, channel: grpc.Channel, model_name: str) -> None:
        from serving.kserve_parts import pb_grpc

        self._stub = pb_grpc.GRPCInferenceServiceStub(channel)
        self._name = model_name

    def ask(self, raw: Raw, signature: str, timeout: float) -> Mapping[str, np.ndarray]:
        """As `Asked.ask` says."""
        from serving.client import infer_request

        request = infer_request(raw, self._name)
        request.parameters["signature_name"].string_param = signature
        answer = self._stub.ModelInfer(request, timeout=timeout, metadata=FROM_RANKER)
        buffers = zip(answer.outputs, answer.raw_output_contents, strict=True)
        return {output.name: np.frombuffer(buffer, np.float32) for output, buffer in buffers}


class TfServing:
    """TensorFlow Serving's Predict, as TF Serving answers it over a bundle's `model/`, and our own runtime too."""

    def __init__(self, channel: grpc.Channel, model_name: str) -> None:
        from serving.tf_messages import prediction_service_pb2_grpc

        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._name = model_name

    def ask(self, raw: Raw, signature: str, timeout: float) -> Mapping[str, np.ndarray]:
        """As `Asked.ask` says."""
        from serving.tf_tensors import predict_request, to_array

        request = predict_request(raw, model_name=self._name, signature=signature)
        answer = self._stub.Predict(request, timeout=timeout, metadata=FROM_RANKER)
        return {name: to_array(answer.outputs[name]) for name in answer.outputs}


PROTOCOLS: dict[str, Callable[[grpc.Channel, str], Asked]] = {"grpc-v2": V2, "tf-serving": TfServing}
"""By the names of `--predictor-protocol`; `grpc-v2` is KServe's."""


class RemoteScorer:
    """A Scorer. Safe from many threads, each of which waits for its own answer."""

    ranks = True

    def __init__(
        self,
        contract: FeatureContract,
        digest: str,
        target: str,
        protocol: Asked,
        *,
        breaker: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """contract and digest of the bundle that the predictor at `target` serves, as far as the ranker knows."""
        self.contract, self.digest = contract, digest
        self._target, self._protocol, self._clock = target, protocol, clock
        self._breaker = Breaker(breaker or BreakerPolicy())
        self._lock = threading.Lock()

    def rank(self, raw: Raw) -> Scores:
        """As `Bundle.rank`, there. Raises PredictorUnavailable."""
        shortest = min(len(values) for values in raw.values())
        rows = max(len(values) for values in raw.values())
        return self._ask(raw, "ranking", rows if shortest else 0)

    def predict(self, raw: Raw) -> Scores:
        """As `Bundle.predict`, there. Raises PredictorUnavailable."""
        return self._ask(raw, "serving_default", len(next(iter(raw.values()))))

    def _ask(self, raw: Raw, signature: str, rows: int) -> Scores:
        with self._lock:
            if not self._breaker.allows(self._clock()):
                raise PredictorUnavailable(
                    f"{self._target}: failed several times in a row and is left alone for a moment"
                )
        until = _until.get()
        left = DEFAULT_SECONDS if until is None else until - time.monotonic()
        try:
            found = self._protocol.ask(raw, signature, max(left, 1e-3))
            scores = {name: np.asarray(found[name], np.float32) for name in ("pctr", "logit")}
            if any(values.shape != (rows,) for values in scores.values()):
                raise ValueError(f"scores of shape {scores['pctr'].shape} for {rows} rows")
        except grpc.RpcError as error:
            # a predictor that says why it refuses is alive: to leave it alone would help nobody
            self._note(failed=_REASON not in dict(error.trailing_metadata() or ()))
            raise PredictorUnavailable(
                f"{self._target}: {error.code().name}: {error.details():.500}"
            ) from error
        except (KeyError, ValueError) as error:
            self._note(failed=True)
            raise PredictorUnavailable(
                f"{self._target}: answers with something else than scores: {error}"
            ) from error
        self._note(failed=False)
        return scores

    def _note(self, *, failed: bool) -> None:
        with self._lock:
            if failed:
                self._breaker.failed(self._clock())
            else:
                self._breaker.succeeded()


def connected(target: str, model_name: str, protocol: str) -> Asked:
    """A connection to a predictor at HOST:PORT; port 80, that of Kubernetes' services, where there is none."""
    channel = grpc.insecure_channel(target if ":" in target else f"{target}:80", options=list(_CHANNEL))
    return PROTOCOLS[protocol](channel, model_name)


__all__ = ["PROTOCOLS", "V2", "RemoteScorer", "TfServing", "connected", "due"]
