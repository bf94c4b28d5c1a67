"""A loaded SavedModel, numpy in and numpy out, run the way TensorFlow Serving runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.bundle.export import LOGIT, PCTR, RANKING, SIGNATURE
from clickmill.errors import BundleCorrupt, BundleError, RequestError
from clickmill.features.texts import Column, Texts


def whole_tensorflow() -> Any:
    """The module `tensorflow`. Raises BundleError where all that is installed of it are its messages, as in the serving image."""
    import tensorflow as tf

    if not hasattr(tf, "Graph"):
        raise BundleError(
            "a SavedModel needs TensorFlow, of which only the messages are installed here: this image runs ONNX twins. Serve a bundle "
            "that has one (`--engine twin`), or build the image with --build-arg TENSORFLOW=whole"
        )
    return tf


class ClickGraph:
    """`graph(raw)` gives {"pctr": (n,), "logit": (n,)} float32, and so does `graph.rank(raw)` for the candidates of one request.
    Safe to call from many threads at once.

    A session with its feeds and fetches bound once takes the arrays as they are; calling the signature of
    `tf.saved_model.load` first makes a tensor of every input and a dict of keywords, which costs a third more at one row
    (0.70 against 0.47 ms with 26 inputs on 2 cores).
    """

    def __init__(self, saved_model: Path, *, in_caller_thread: bool = False) -> None:
        """`in_caller_thread` runs every operation on the thread that asks: an endpoint's choice, where handing a small request to
        TensorFlow's pool and back costs more than it gains (32 rows on 2 busy cores: p50 1.0 ms against 4.0).

        Raises BundleCorrupt when the folder holds no SavedModel with our signature, and BundleError as `whole_tensorflow` does.
        """
        tf = whole_tensorflow()
        v1 = tf.compat.v1
        self._malformed: Any = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)
        graph = tf.Graph()
        # -1 is TensorFlow's word for the caller's thread
        alone = v1.ConfigProto(inter_op_parallelism_threads=-1, intra_op_parallelism_threads=1)
        self._session = v1.Session(graph=graph, config=alone if in_caller_thread else None)
        try:
            with graph.as_default(), _without_deprecation_notice():
                loaded = v1.saved_model.loader.load(self._session, ["serve"], str(saved_model))
            by_rows = _Call(self._session, loaded.signature_def[SIGNATURE])
        except (OSError, KeyError, RuntimeError, tf.errors.OpError) as error:
            raise BundleCorrupt(
                f"{saved_model}: holds no graph with the signature {SIGNATURE} and outputs {PCTR}, {LOGIT} ({error}). "
                "Verify the bundle and write it again."
            ) from error
        self.inputs = by_rows.inputs
        """Names of the fields a request carries."""
        self._by_rows = by_rows
        has_form = RANKING in loaded.signature_def  # a protobuf map would make up what it lacks
        self._by_request = _Call(self._session, loaded.signature_def[RANKING]) if has_form else None

    @property
    def ranks(self) -> bool:
        """Whether a request's shared fields can be given once."""
        return self._by_request is not None

    def __call__(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """All inputs by name, (n,) or (n, L), in the dtypes of `features.tensors`. Raises RequestError when they are not."""
        return self._ask(self._by_rows, raw)

    def rank(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """All inputs by name, one row of the shared fields and n of the others (`features.sides`).

        Raises RequestError when they are not, BundleError where the graph has no such form.
        """
        if self._by_request is None:
            raise BundleError(
                f"the graph has no signature {RANKING}; ask it by rows, or write the bundle again"
            )
        return self._ask(self._by_request, raw)

    def _ask(self, call: _Call, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        try:
            pctr, logit = call(raw)
        except KeyError as error:
            raise RequestError(
                f"field `{error.args[0]}` is missing; the graph reads {', '.join(self.inputs)}"
            ) from None
        except (TypeError, ValueError) as error:
            raise RequestError(f"an input has the wrong type or shape: {error}") from error
        except self._malformed as error:
            raise RequestError(
                f"the rows of the inputs do not fit together: {error.message.splitlines()[0]}"
            ) from error
        return {PCTR: pctr, LOGIT: logit}

    def close(self) -> None:
        """Free the graph's memory now; without it the garbage collector does."""
        self._session.close()


class _Call:
    """One signature with its feeds and fetches bound."""

    def __init__(self, session: Any, signature: Any) -> None:
        self.inputs: tuple[str, ...] = tuple(sorted(signature.inputs))
        self._call: Any = session.make_callable(
            [signature.outputs[name].name for name in (PCTR, LOGIT)],
            feed_list=[signature.inputs[name].name for name in self.inputs],
        )

    def __call__(self, raw: Mapping[str, Column]) -> Any:
        given = (raw[name] for name in self.inputs)
        return self._call(*(np.asarray(v) if isinstance(v, Texts) else v for v in given))


@contextmanager
def _without_deprecation_notice() -> Iterator[None]:
    """TensorFlow calls its session loader deprecated on every load. The package pins the minor version of TensorFlow, so the
    loader cannot vanish unseen; what else is logged meanwhile goes through."""
    import tensorflow as tf

    def keep(record: logging.LogRecord) -> bool:
        return "is deprecated and will be removed" not in str(record.msg)

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
