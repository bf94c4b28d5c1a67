"""KServe's gRPC service with its messages read by us: to bytes that are none gRPC answers UNKNOWN, as if the server were at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.kserve_parts import InferenceServicer, pb, pb_grpc
from serving.refusals import MalformedRequest, details_of, metadata_of, refusal_of

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class _Registered:
    """In a server's place: takes what the generated code registers."""

    handlers: dict[str, Any]

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same handlers once more, closed up."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """The handlers by method."""
        self.handlers = handlers


def service_handler(servicer: InferenceServicer, count: Callable[[str], None]) -> Any:
    """The service's handler for a gRPC server; `count` is told the reason of each message that cannot be read."""
    registered = _Registered()
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, registered)

    def reading(handler: Any) -> Any:
        async def call(data: bytes, context: Any) -> Any:
            try:
                request = handler.request_deserializer(data)
            except DecodeError as error:
                refused = MalformedRequest(f"the message cannot be read: {error}")
                count(refusal_of(refused).reason)
                status = grpc.StatusCode[refusal_of(refused).grpc]
                await context.abort(status, details_of(refused), metadata_of(refused))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=handler.response_serializer)

    calls = {name: reading(handler) for name, handler in registered.handlers.items()}
    return grpc.method_handlers_generic_handler(SERVICE, calls)
