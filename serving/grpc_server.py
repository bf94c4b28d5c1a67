"""The gRPC port: V2 by KServe's service with predictions answered from the buffers, and TF Serving's services beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from clickmill.errors import UsageError
from clickmill.metric_names import RANKER
from serving.caller import protocol_of
from serving.grpc_messages import service_handler
from serving.kserve_parts import (
    DataPlane,
    InferenceServicer,
    ModelNotFound,
    ModelNotReady,
    ModelRepositoryExtension,
    pb,
)
from serving.predictor import HEADER_DIGEST, HEADER_VERSION, BundleModel
from serving.refusals import (
    NotOffered,
    NotReady,
    UnknownModel,
    details_of,
    is_fault,
    metadata_of,
    refusal_of,
)
from serving.scheduler import Scheduler
from serving.stages import called_context, failed

log = logging.getLogger(__name__)

PROTOCOL = "grpc"
"""Value of the metrics' label `protocol`."""


class BundleServicer(InferenceServicer):
    """KServe's servicer; the rest of its calls (health, metadata) go to its data plane."""

    def __init__(self, data_plane: DataPlane, model: BundleModel, scheduler: Scheduler) -> None:
        super().__init__(data_plane, ModelRepositoryExtension(data_plane.model_registry))
        self._model, self._scheduler = model, scheduler
        self._seconds = {
            protocol: model.metrics.request_seconds.labels(model.name, protocol)
            for protocol in (PROTOCOL, RANKER)
        }
        self._in_flight = model.metrics.in_flight.labels(model.name)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Score the inputs of a request."""
        with self._scheduler.stages.request(PROTOCOL, partial(called_context, context), request.id or None):
            return await self._infer(request, context)

    async def _infer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        start = time.perf_counter()
        protocol = protocol_of(context, PROTOCOL)
        self._in_flight.inc()
        try:
            if request.model_name != self._model.name:
                raise UnknownModel(
                    f"no model `{request.model_name}` here; this server has `{self._model.name}`"
                )
            deadline = self._scheduler.admission.deadline(context.time_remaining())
            size = request.ByteSize()
            response = await self._scheduler.answer(size, deadline, self._model.ask_grpc, request)
        except Exception as error:  # the edge: every error becomes a status, bugs are logged
            failed(error)
            refusal = refusal_of(error)
            if is_fault(error):
                log.error("gRPC request failed", exc_info=error)
            self.count_refused(refusal.reason, protocol)
            await context.abort(grpc.StatusCode[refusal.grpc], details_of(error), metadata_of(error))
            raise  # abort raises; for the type checker
        finally:
            self._in_flight.dec()
        context.set_trailing_metadata(
            (
                (HEADER_DIGEST, response.parameters["bundle_digest"].string_param),
                (HEADER_VERSION, response.model_version),
            )
        )
        self._seconds[protocol].observe(time.perf_counter() - start)
        return response

    def count_refused(self, reason: str, protocol: str = PROTOCOL) -> None:
        """Note a call without a prediction, or a message that did not come as far as a call."""
        self._model.metrics.rejected.labels(self._model.name, protocol, reason).inc()

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the model answers; NOT_FOUND for a name not served."""
        return await self._known(super().ModelReady, request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Inputs and outputs; NOT_FOUND for a name not served, UNAVAILABLE before a bundle is loaded."""
        return await self._known(super().ModelMetadata, request, context)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not offered: bundles come from the watched folder."""
        await self._not_offered(context)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not offered: it would take the endpoint away from everybody."""
        await self._not_offered(context)

    async def _known(self, call: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except ModelNotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except (ModelNotReady, NotReady) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def _not_offered(self, context: Any) -> None:
        error = NotOffered("bundles are loaded from the watched folder; deploy a bundle there instead")
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))


class GrpcServer:
    """A gRPC server on one address, on the running event loop."""

    def __init__(
        self,
        servicer: BundleServicer,
        handlers: tuple[Any, ...],
        host: str,
        port: int,
        *,
        max_bytes: int,
        connection_seconds: float = 0.0,
    ) -> None:
        """`handlers` are generic handlers of further services. A connection older than `connection_seconds` (a tenth more or less, so that
        not all go at once) is asked to go: its calls are finished, the client's next ones go by a new one. 0 keeps connections."""
        self._servicer, self._handlers = servicer, handlers
        self._address, self._max_bytes = f"{host}:{port}", max_bytes
        self._age = (
            [("grpc.max_connection_age_ms", round(connection_seconds * 1e3))] if connection_seconds else []
        )
        self._server: Any = None

    async def start(self) -> None:
        """Bind and listen. Raises UsageError when the port is taken meanwhile."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_bytes),
                ("grpc.max_send_message_length", self._max_bytes),
                # off: two servers would share the port and each would see half of the requests
                ("grpc.so_reuseport", 0),
                *self._age,
            ]
        )
        inference = service_handler(self._servicer, self._servicer.count_refused)
        self._server.add_generic_rpc_handlers((inference, *self._handlers))
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise UsageError(
                f"gRPC cannot listen on {self._address}: {error}; choose another --grpc-port"
            ) from error
        await self._server.start()

    async def wait(self) -> None:
        """Until stopped."""
        await self._server.wait_for_termination()

    async def stop(self, grace: float) -> None:
        """Take no more calls and give those in flight `grace` seconds."""
        await self._server.stop(grace)
