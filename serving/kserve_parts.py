"""The parts of kserve we build on, imported without letting it read our command line.

kserve.model_server parses sys.argv when it is imported (and takes abbreviations: `--http` of any program that imports
it would set its HTTP port). Everything here comes from kserve through this file, and only from here.
"""

from __future__ import annotations

import sys

_argv, sys.argv = sys.argv, sys.argv[:1]
try:
    import kserve
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
    from kserve.metrics import PREDICT_HIST_TIME
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import InferInput, InferOutput, InferRequest, InferResponse
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import metrics_handler
    from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
    from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
finally:
    sys.argv = _argv

__all__ = [
    "PREDICT_HIST_TIME",
    "DataPlane",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "InferenceServicer",
    "InvalidInput",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepositoryExtension",
    "ServerNotReady",
    "kserve",
    "metrics_handler",
    "pb",
    "pb_grpc",
    "register_v1_endpoints",
    "register_v2_endpoints",
]
