"""tensorflow.serving.PredictionService and ModelService on the endpoint's gRPC port.

The handlers take and give bytes, which are parsed where they are scored; the port must listen before anything slow is imported.
Until a bundle is warm calls are refused without looking into them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import grpc

from clickmill.metric_names import RANKER
from serving.caller import protocol_of
from serving.predictor import BundleModel
from serving.refusals import NotOffered, details_of, is_fault, metadata_of, refusal_of
from serving.scheduler import Scheduler
from serving.stages import called_context, failed

if TYPE_CHECKING:
    from serving.tf_protocol import TfProtocol

log = logging.getLogger(__name__)

PROTOCOL = "tf"
"""Value of the metrics' label `protocol`."""
SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

Call = Callable[[bytes, Any], Awaitable[bytes]]


class TfServices:
    """The handlers of both services; `handlers()` goes to the gRPC server."""

    def __init__(self, model: BundleModel, scheduler: Scheduler) -> None:
        self._model, self._scheduler = model, scheduler
        self._seconds = {
            protocol: model.metrics.request_seconds.labels(model.name, protocol)
            for protocol in (PROTOCOL, RANKER)
        }
        self._in_flight = model.metrics.in_flight.labels(model.name)

    def handlers(self) -> tuple[Any, ...]:
        """Generic handlers of the two services."""
        prediction = {
            "Predict": self._scored("ask_predict"),
            "Classify": self._scored("ask_classify"),
            "Regress": self._scored("ask_regress"),
            "GetModelMetadata": self._metadata,
            "MultiInference": self._refused(
                "MultiInference is not offered; call Classify and Regress, or Predict, which gives pctr and logit at once"
            ),
        }
        management = {
            "GetModelStatus": self._status,
            "HandleReloadConfigRequest": self._refused(
                "bundles are loaded from the watched folder, not by a config; deploy a bundle there instead"
            ),
        }
        return (_handler(SERVICE, prediction), _handler(MODEL_SERVICE, management))

    @cached_property
    def _protocol(self) -> TfProtocol:
        from serving.tf_protocol import TfProtocol

        return TfProtocol(self._model)

    def _scored(self, method: str) -> Call:
        async def call(data: bytes, context: Any) -> bytes:
            start = time.perf_counter()
            self._in_flight.inc()
            try:
                _ = self._model.in_service  # before the protocol, which would import TensorFlow on the loop
                ask = getattr(self._protocol, method)
                deadline = self._scheduler.admission.deadline(context.time_remaining())
                message = await self._scheduler.answer(len(data), deadline, ask, data)
            except Exception as error:
                await self._abort(error, context)
                raise
            finally:
                self._in_flight.dec()
            context.set_trailing_metadata(tuple(message.headers.items()))
            self._seconds[protocol_of(context, PROTOCOL)].observe(time.perf_counter() - start)
            return message.body

        async def timed(data: bytes, context: Any) -> bytes:
            with self._scheduler.stages.request(PROTOCOL, partial(called_context, context)):
                return await call(data, context)

        return timed

    async def _metadata(self, data: bytes, context: Any) -> bytes:
        try:
            _ = self._model.in_service
            message = self._protocol.metadata(data)
        except Exception as error:
            await self._abort(error, context)
            raise
        context.set_trailing_metadata(tuple(message.headers.items()))
        return message.body

    async def _status(self, data: bytes, context: Any) -> bytes:
        try:
            if not self._model.ready:
                # whoever asks waits for the import, the loop does not
                await asyncio.to_thread(lambda: self._protocol)
            return self._protocol.status(data)
        except Exception as error:
            await self._abort(error, context)
            raise

    def _refused(self, words: str) -> Call:
        async def call(data: bytes, context: Any) -> bytes:
            await self._abort(NotOffered(words), context)
            raise AssertionError("abort raises")

        return call

    async def _abort(self, error: Exception, context: Any) -> None:
        failed(error)
        refusal = refusal_of(error)
        if is_fault(error):
            log.error("%s request failed", PROTOCOL, exc_info=error)
        protocol = protocol_of(context, PROTOCOL)
        self._model.metrics.rejected.labels(self._model.name, protocol, refusal.reason).inc()
        await context.abort(grpc.StatusCode[refusal.grpc], details_of(error), metadata_of(error))


def _handler(service: str, calls: dict[str, Call]) -> Any:
    methods = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
    return grpc.method_handlers_generic_handler(service, methods)
