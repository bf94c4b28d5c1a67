"""A ranker in front of a separate predictor: it reads contract and click rates from the bundle, and asks the predictor's graph by gRPC."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from clickmill.errors import BundleError, UsageError
from serving.lanes import Lanes
from serving.remote_scorer import PROTOCOLS, RemoteScorer, connected
from serving.standby import read_standby
from serving.watcher import Loaded


class RemotePredictor(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The predictor that scores for a ranker, in another process."""

    target: str
    """HOST:PORT of its gRPC; the port is 80 where none is given."""
    model_name: str
    """Name it serves the bundle under."""
    protocol: str = "grpc-v2"
    """`grpc-v2`, KServe's, for our own runtime; `tf-serving` for TensorFlow Serving."""
    at_once: int = Field(default=64, ge=1)
    """Calls under way at most; a ranking beyond them waits for a thread, and is turned away when that takes long."""

    def lanes(self) -> Lanes:
        """Threads that wait for the predictor: nothing waits on the event loop."""
        return Lanes(self.at_once, small_bytes=-1)

    def loader(self) -> _Loader:
        """What takes the place of loading a graph."""
        if self.protocol not in PROTOCOLS:
            raise UsageError(
                f"predictor protocol {self.protocol!r}: must be {' or '.join(PROTOCOLS)}; rankings have no REST form"
            )
        return _Loader(self)


class _Loader:
    def __init__(self, predictor: RemotePredictor) -> None:
        self._target = predictor.target
        self._protocol = connected(predictor.target, predictor.model_name, predictor.protocol)

    def __call__(self, folder: Path) -> Loaded:
        standby = read_standby(folder)
        if standby is None:
            raise BundleError(
                f"{folder}: has no click rates (priors.parquet), it is older than they are; write the bundle again"
            )
        scorer = RemoteScorer(standby.form.contract, standby.digest, self._target, self._protocol)
        return Loaded(scorer, {}, standby.priors)
