"""Clients of the endpoint, to call and to await: REST, gRPC, and TensorFlow Serving's protocol (`serving.client.tensorflow`,
imported by name, since few need it). May import `clickmill` and the light parts of `serving`.

    retry     when a call is tried again, hedged or given up: decisions without a clock or a socket
    conduct   carries those decisions out, on threads and on an event loop
    calls     what a call sends and how its answer is read, the same for both
    rest, rpc the clients
"""

from serving.client.calls import (
    Predictions,
    Ranked,
    RankedAd,
    error_of,
    infer_request,
    tensor_body,
)
from serving.client.rest import AsyncClient, Client
from serving.client.retry import Budget, RetryPolicy, Unreachable
from serving.client.rpc import AsyncGrpcClient, GrpcClient

__all__ = [
    "AsyncClient",
    "AsyncGrpcClient",
    "Budget",
    "Client",
    "GrpcClient",
    "Predictions",
    "Ranked",
    "RankedAd",
    "RetryPolicy",
    "Unreachable",
    "error_of",
    "infer_request",
    "tensor_body",
]
