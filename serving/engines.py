"""What runs a bundle's graph in this process: ONNX Runtime its twin, or TensorFlow its SavedModel; and the proof and choice at load.

The twin is the default: TensorFlow is then not even imported, which is seconds of start and some hundred MB. `auto` loads both, asks both
for the golden rows, times both on this machine, and keeps for small and for large requests the one that was quicker.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from clickmill.contract import FeatureContract
from serving.watcher import Loaded

if TYPE_CHECKING:
    from clickmill.bundle import Bundle

log = logging.getLogger(__name__)

EngineChoice = Literal["twin", "savedmodel", "auto"]
SMALL, LARGE = "small", "large"
SMALL_ROWS = 32
"""Rows up to which a request counts as small: there the cost of a call decides, above it the arithmetic."""
_TIMED = {SMALL: 1, LARGE: 256}
_TURNS = 15
"""Runs of each engine at each size, in turns; the median of so many is not moved by a hiccup of the machine."""

Raw = dict[str, np.ndarray]
Scores = dict[str, np.ndarray]


def loader(engine: EngineChoice = "twin") -> Callable[[Path], Loaded]:
    """How the watcher loads bundles for an engine. The first load tunes the process first."""
    tuned = False

    def load(path: Path) -> Loaded:
        nonlocal tuned
        if not tuned:
            tuned = True
            tune_process(with_tensorflow=needs_tensorflow(path, engine))
        return load_verified(path, engine)

    return load


def needs_tensorflow(path: Path, engine: EngineChoice) -> bool:
    """Whether the bundle at `path` will be run, or timed, by TensorFlow."""
    from clickmill.bundle import twin

    return engine != "twin" or not twin.present(path)


def load_verified(path: Path, engine: EngineChoice = "twin") -> Loaded:
    """Load a bundle, all bytes verified and its golden predictions checked by whatever will serve. A bundle without a twin is served by its
    SavedModel. Raises BundleError and its kinds."""
    import pyarrow.parquet as pq

    from clickmill import bundle as bundles
    from clickmill.features.tensors import from_arrow

    bundle = bundles.load(
        path, in_caller_thread=True, engine="savedmodel" if engine == "savedmodel" else "twin"
    )
    if bundle.engine == "savedmodel" and engine != "savedmodel":
        facts = bundle.manifest.export
        reason = (facts and facts.no_twin) or "it was written without one"
        log.warning("%s: TensorFlow serves it, the bundle has no twin: %s", path, reason)
    bundle.check_golden()
    golden = pq.read_table(path / "golden.parquet", columns=list(bundle.contract.inputs))
    rows = from_arrow(golden, bundle.contract)
    engines = {SMALL: bundle.engine, LARGE: bundle.engine}
    if engine != "auto" or bundle.engine != "twin":
        return Loaded(bundle, rows, bundle.priors, engines)
    other = bundles.load(path, verify=False, in_caller_thread=True)
    other.check_golden()
    chosen = quicker(bundle, other, rows)
    return Loaded(chosen, rows, bundle.priors, {SMALL: chosen.small.engine, LARGE: chosen.large.engine})


@dataclass(frozen=True)
class BySize:
    """A bundle run by one engine for small requests and by one for large ones; a `Scorer`."""

    small: Bundle
    large: Bundle

    @property
    def contract(self) -> FeatureContract:
        """Of the bundle."""
        return self.small.contract

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.small.digest

    @property
    def ranks(self) -> bool:
        """Whether `rank` can be asked."""
        return self.small.ranks

    def predict(self, raw: Raw) -> Scores:
        """As the bundle's."""
        return self._of(raw).predict(raw)

    def rank(self, raw: Raw) -> Scores:
        """As the bundle's."""
        return self._of(raw).rank(raw)

    def _of(self, raw: Mapping[str, np.ndarray]) -> Bundle:
        return self.small if max(map(len, raw.values())) <= SMALL_ROWS else self.large


def quicker(twin: Bundle, saved: Bundle, rows: Raw) -> BySize:
    """The quicker of two engines at 1 and at 256 rows, by the median of runs in turns; told in the log."""
    chosen = {}
    for size, n in _TIMED.items():
        raw = {name: values[np.arange(n) % len(values)] for name, values in rows.items()}
        asks = {"twin": partial(twin.predict, raw), "savedmodel": partial(saved.predict, raw)}
        seconds = medians(asks, _TURNS)
        chosen[size] = twin if seconds["twin"] <= seconds["savedmodel"] else saved
        log.warning(
            "engine for %s requests: %s (%d rows: twin %.2f ms, SavedModel %.2f ms)",
            size, chosen[size].engine, n, seconds["twin"] * 1e3, seconds["savedmodel"] * 1e3,
        )  # fmt: skip
    return BySize(chosen[SMALL], chosen[LARGE])


def medians(asks: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each call, made in turns after two runs that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(turns + 2):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def tune_process(*, with_tensorflow: bool) -> None:
    """What the process needs before its first bundle: engines without pools of idle threads, and a quiet collector.

    Bundles run on the thread that asks (see `bundle.load(in_caller_thread=True)`). What is imported by now lives as long as the
    process: frozen, the garbage collector no longer walks it at some request (0.1 to 0.3 s with TensorFlow loaded).
    """
    import onnxruntime  # noqa: F401 - imported here, with the bundle's parts, so that they are frozen too

    if with_tensorflow:
        from clickmill.bundle.graph import whole_tensorflow

        tf = whole_tensorflow()
        try:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:  # TensorFlow has run in this process before
            log.warning("threads of TensorFlow stay as they are: %s", error)
    import serving.tf_protocol  # noqa: F401

    gc.collect()
    gc.freeze()
