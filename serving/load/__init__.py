"""A load generator: prepared requests sent at fixed times or without pause, and when each answer came. Imports `clickmill` and `serving`'s protocols."""

from serving.load.arrivals import constant, poisson
from serving.load.exchange import Answer, Exchange
from serving.load.generator import Address, Load, closed_loop, open_loop
from serving.load.grpc import GrpcExchange
from serving.load.http import HttpExchange, http_request
from serving.load.requests import Prepared, Speech, prepare

__all__ = [
    "Address",
    "Answer",
    "Exchange",
    "GrpcExchange",
    "HttpExchange",
    "Load",
    "Prepared",
    "Speech",
    "closed_loop",
    "constant",
    "http_request",
    "open_loop",
    "poisson",
    "prepare",
]
