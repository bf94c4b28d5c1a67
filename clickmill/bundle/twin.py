"""The ONNX twin of the graph: the same answers without TensorFlow, run by ONNX Runtime on the CPU.

    raw fields -> RowEncoder (numpy) -> model, prior correction and calibrator (ONNX) -> logit, pctr

`twin.onnx` takes rows, `twin_ranking.onnx` one request whose user and context are given once; their inputs are those of the encoder. The
embedding tables are not in these files: they are external data, and point at the bytes the SavedModel keeps in `model/1/variables`. ONNX Runtime
maps them, so that a table costs no second copy on disk or in memory, may be larger than the 2 GiB a protobuf holds, and is shared by both forms and by all
processes of a machine. `twin/` holds what the encoder reads: the feature space without its vocabularies, and the index of their rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clickmill.bundle.export import LOGIT, PCTR
from clickmill.contract import Dtype, FeatureContract
from clickmill.errors import BundleCorrupt, BundleError, RequestError, UnreadableData
from clickmill.features.row_encoder import RowEncoder
from clickmill.features.row_index import RowIndex
from clickmill.features.sides import shared_fields
from clickmill.features.space import FeatureSpace
from clickmill.features.texts import Column

ROWS, REQUEST = "twin.onnx", "twin_ranking.onnx"
"""At the root of the bundle: ONNX Runtime refuses external data outside the folder of the file that names it."""
FOLDER = "twin"

_DTYPES: dict[Dtype, str] = {
    Dtype.STRING: "OS",
    Dtype.STRING_LIST: "OS",
    Dtype.INT64: "lq",
    Dtype.INT64_LIST: "lq",
    Dtype.TIMESTAMP: "lq",
    Dtype.FLOAT32: "f",
    Dtype.BOOL: "?",
}
"""numpy's characters of the dtypes `features.tensors` makes."""


def present(folder: Path) -> bool:
    """Whether a bundle has a twin."""
    return (folder / ROWS).is_file()


class Twin:
    """`twin(raw)` gives {"pctr": (n,), "logit": (n,)} float32, and so does `twin.rank(raw)` for the candidates of one request: as
    `ClickGraph` does, with the same errors. Safe to call from many threads at once."""

    def __init__(self, folder: Path, *, in_caller_thread: bool = False) -> None:
        """The twin of the bundle at `folder`. `in_caller_thread` runs a request on the thread that asks, and no other.

        Raises BundleCorrupt when its files are missing or unreadable.
        """
        try:
            space = FeatureSpace.from_document(json.loads((folder / FOLDER / "space.json").read_text()))
            self._encoder = RowEncoder(space, RowIndex.load(folder / FOLDER))
        except (OSError, ValueError, KeyError, TypeError, UnreadableData) as error:
            raise BundleCorrupt(
                f"{folder / FOLDER}: holds no encoder of the twin ({error}). {_AGAIN}"
            ) from error
        self._by_rows = _Session(folder / ROWS, space, in_caller_thread)
        has_form = (folder / REQUEST).is_file()
        self._by_request = _Session(folder / REQUEST, space, in_caller_thread) if has_form else None
        contract = space.contract
        self._fields = tuple((name, _DTYPES[f.dtype], f.dtype.is_list) for name, f in _inputs(contract))
        self._shared = shared_fields(contract)
        self.inputs: tuple[str, ...] = tuple(sorted(contract.inputs))
        """Names of the fields a request carries."""

    @property
    def ranks(self) -> bool:
        """Whether a request's shared fields can be given once."""
        return self._by_request is not None

    def __call__(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """All inputs by name, (n,) or (n, L), in the dtypes of `features.tensors`. Raises RequestError when they are not."""
        self._check(raw, ())
        return self._by_rows(self._encoder(raw))

    def rank(self, raw: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """All inputs by name, one row of the shared fields and n of the others (`features.sides`).

        Raises RequestError when they are not, BundleError where the twin has no such form.
        """
        if self._by_request is None:
            raise BundleError(f"the twin has no {REQUEST}; ask it by rows, or write the bundle again")
        self._check(raw, self._shared)
        return self._by_request(self._encoder.request(raw))

    def _check(self, raw: Mapping[str, Column], shared: frozenset[str] | tuple[()]) -> None:
        """numpy would repeat a field of one row for all rows, and convert a wrong type, without a word."""
        rows = -1
        try:
            for name, kinds, is_list in self._fields:
                values = raw[name]
                if values.dtype.char not in kinds or values.ndim != 1 + is_list:
                    raise RequestError(
                        f"an input has the wrong type or shape: field `{name}` is {values.dtype} {list(values.shape)}"
                    )
                n = len(values)
                if name in shared:
                    if n != 1:
                        raise RequestError(
                            f"the rows of the inputs do not fit together: field `{name}` has {n}, not 1"
                        )
                elif rows in (-1, n):
                    rows = n
                else:
                    raise RequestError(
                        f"the rows of the inputs do not fit together: field `{name}` has {n}, others have {rows}"
                    )
        except KeyError as error:
            raise RequestError(
                f"field `{error.args[0]}` is missing; the graph reads {', '.join(self.inputs)}"
            ) from None
        except AttributeError as error:
            raise RequestError(f"an input has the wrong type or shape: {error}") from error

    def close(self) -> None:
        """Free the sessions now; without it the garbage collector does."""
        del self._by_rows, self._by_request


class _Session:
    """One file, its inputs bound to the keys of the encoder."""

    def __init__(self, path: Path, space: FeatureSpace, in_caller_thread: bool) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        if in_caller_thread:
            options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors have no base but Exception
            raise BundleCorrupt(f"{path}: ONNX Runtime cannot load it ({error}). {_AGAIN}") from error
        # a model that does not look at an input has lost it on the way
        self._keys = [(node.name, key_of(node.name, space)) for node in session.get_inputs()]
        self._run: Any = session.run

    def __call__(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            pctr, logit = self._run([PCTR, LOGIT], {name: encoded[key] for name, key in self._keys})
        except KeyError as error:
            raise BundleCorrupt(f"the twin reads {error.args[0]}, which its encoder does not give") from None
        return {PCTR: pctr, LOGIT: logit}


_AGAIN = "Verify the bundle and write it again."


def name_of(key: str, space: FeatureSpace) -> str:
    """Name in ONNX of an input of the encoder: lists by number, since a field may be called anything."""
    if key.startswith("list/"):
        return f"list_{[slot.name for slot in space.lists].index(key.removeprefix('list/'))}"
    return key.replace("/", "_")


def key_of(name: str, space: FeatureSpace) -> str:
    """The encoder's key of an input in ONNX."""
    if name.startswith("list_"):
        return f"list/{space.lists[int(name.removeprefix('list_'))].name}"
    return name.replace("_", "/")


def _inputs(contract: FeatureContract) -> list[tuple[str, Any]]:
    return [(name, f) for name, f in contract.inputs.items() if f.dtype is not None]
