"""Write the ONNX twin of a model beside its SavedModel (see `twin`)."""

from __future__ import annotations

import json
import logging
import mmap
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.bundle import golden, requests
from clickmill.bundle.export import LOGIT, PCTR
from clickmill.bundle.stored_rows import ServedModel, tables_of
from clickmill.bundle.twin import FOLDER, REQUEST, ROWS, Twin, name_of
from clickmill.contract import FeatureContract
from clickmill.errors import BundleError, ClickmillError, GoldenMismatch
from clickmill.features.row_index import RowIndex
from clickmill.features.sides import shared_fields

if TYPE_CHECKING:
    import tensorflow as tf

    from clickmill.bundle.graph import ClickGraph
    from clickmill.calibration import Calibration

OPSET = 18
"""Of ONNX 1.13 (2022): old enough for every ONNX Runtime in use, new enough for all that the models need."""
_ONNX_NAMES = {"float32": "FLOAT", "bfloat16": "BFLOAT16", "int8": "INT8"}
_PROBE = 256
"""Bytes of a table by which it is looked for among the variables."""


PCTR_TOLERANCE = 1e-6
"""Largest |pctr| between twin and SavedModel over the golden rows. Logits: golden.TOLERANCE."""

log = logging.getLogger(__name__)


def write_twin(
    served: ServedModel, calibration: Calibration, bundle: Path, saved_model: str, graph: ClickGraph
) -> str | None:
    """Write the twin into a bundle whose SavedModel (`graph`) and golden rows are written, and hold it to their answers.

    Where that does not work the bundle has no twin: the reason is returned, for the manifest, and logged. The SavedModel is right all the
    same, and a pipeline that ran for hours shall not end without a model because its endpoint could have been quicker.
    """
    try:
        export_twin(served, calibration, bundle, saved_model)
        twin = Twin(bundle)
        check(bundle, served.trained.contract, graph, twin)
        twin.close()
    except ClickmillError as error:
        for path in (bundle / ROWS, bundle / REQUEST):
            path.unlink(missing_ok=True)
        shutil.rmtree(bundle / FOLDER, ignore_errors=True)
        log.warning("the bundle gets no ONNX twin, endpoints will run its SavedModel: %s", error)
        return str(error)
    return None


def check(bundle: Path, contract: FeatureContract, graph: ClickGraph, twin: Twin) -> None:
    """Ask twin and SavedModel for the golden rows, by rows and by request. Raises GoldenMismatch where they differ."""
    rows = golden.read(bundle, contract)
    golden.check(bundle, contract, twin)
    moved = np.abs(twin(rows)[PCTR] - graph(rows)[PCTR])
    if not moved.max() <= PCTR_TOLERANCE:
        raise GoldenMismatch(
            f"{bundle}: the twin's pctr differs from the SavedModel's by {moved.max():.3g} (golden row {int(moved.argmax())})"
        )
    if graph.ranks:
        requests.check(bundle, rows, contract, graph, twin.rank, tolerance=golden.TOLERANCE)


def export_twin(served: ServedModel, calibration: Calibration, bundle: Path, saved_model: str) -> None:
    """Write the twin into the folder `bundle`, whose SavedModel has been written to `saved_model` in it.

    Raises BundleError when tf2onnx cannot convert the model, or a table cannot be found among the SavedModel's variables.
    """
    from clickmill.models.request import request_form

    trained = served.trained
    space, model = trained.space, trained.keras_model
    tables = _tables(served)
    _write_form(served, calibration, tables, bundle, saved_model, model, ROWS)
    if trained.contract.inputs.keys() - shared_fields(trained.contract):
        _write_form(served, calibration, tables, bundle, saved_model, request_form(model, space), REQUEST)
    RowIndex.over(space.vocabularies).save(bundle / FOLDER)
    (bundle / FOLDER / "space.json").write_text(
        json.dumps(space.document(), indent=1, ensure_ascii=False), encoding="utf-8"
    )


@dataclass(frozen=True)
class _Table:
    """One stored array of an embedding layer: its name in ONNX, and its values as the SavedModel keeps them."""

    layer: str
    name: str
    values: np.ndarray
    is_scale: bool = False


def _tables(served: ServedModel) -> list[_Table]:
    found = []
    for number, layer in enumerate(tables_of(served.trained.keras_model)):
        rounded = served.rounded.get(layer.name)
        values = np.asarray(layer.table) if rounded is None else rounded.values
        found.append(_Table(layer.name, f"table_{number}", values))
        if rounded is not None and rounded.scale is not None:
            found.append(_Table(layer.name, f"scale_{number}", rounded.scale, is_scale=True))
    return found


def _write_form(
    served: ServedModel,
    calibration: Calibration,
    tables: list[_Table],
    bundle: Path,
    saved_model: str,
    form: Any,
    file: str,
) -> None:
    proto = _converted(served, calibration, tables, form)
    _make_external(proto, tables, bundle, saved_model)
    (bundle / file).write_bytes(proto.SerializeToString(deterministic=True))


def _converted(served: ServedModel, calibration: Calibration, tables: list[_Table], form: Any) -> Any:
    """The ONNX model of a Keras model over the encoder's keys; the tables are inputs of it, so that no constant holds them."""
    import tensorflow as tf
    import tf2onnx

    from clickmill.calibration import graph

    space = served.trained.space
    keys = {name_of(key, space): key for key in form.input}
    specs = [
        tf.TensorSpec(form.input[key].shape, form.input[key].dtype, name=name) for name, key in keys.items()
    ]
    specs += [tf.TensorSpec(t.values.shape, tf.as_dtype(t.values.dtype), name=t.name) for t in tables]

    def click_probability(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = dict(zip(keys.values(), given, strict=False))
        stored = {table.name: tensor for table, tensor in zip(tables, given[len(keys) :], strict=True)}
        with ExitStack() as reading:
            for number, layer in enumerate(tables_of(served.trained.keras_model)):
                read = _reader(stored[f"table_{number}"], stored.get(f"scale_{number}"))
                reading.enter_context(layer.read_by(read))
            raw_logit = form(inputs, training=False)
        logit = tf.reshape(graph.apply(calibration, raw_logit), [-1])
        return {PCTR: tf.sigmoid(logit, name=PCTR), LOGIT: tf.identity(logit, name=LOGIT)}

    try:
        with _quiet():
            proto, _ = tf2onnx.convert.from_function(
                tf.function(click_probability, autograph=False), input_signature=specs, opset=OPSET
            )
    except Exception as error:  # tf2onnx raises whatever its handlers do
        raise BundleError(f"tf2onnx cannot convert the model: {type(error).__name__}: {error}") from error
    return proto


def _reader(table: tf.Tensor, scale: tf.Tensor | None) -> Callable[[tf.Tensor], tf.Tensor]:
    import tensorflow as tf

    def read(rows: tf.Tensor) -> tf.Tensor:
        wide = tf.cast(tf.gather(table, rows), tf.float32)
        return wide if scale is None else wide * tf.gather(scale, rows)

    return read


def _make_external(proto: Any, tables: list[_Table], bundle: Path, saved_model: str) -> None:
    """Turn the tables from inputs into initializers that point at the SavedModel's bytes."""
    from onnx import TensorProto

    by_name = {table.name: table for table in tables}
    asked = [node.name for node in proto.graph.input if node.name in by_name]
    kept = [node for node in proto.graph.input if node.name not in by_name]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    # tf2onnx takes bfloat16 for float16; without its notes ONNX Runtime infers the types itself
    del proto.graph.value_info[:]
    where = f"{saved_model}/variables/variables.data-00000-of-00001"
    for name in asked:
        values = by_name[name].values
        kind = TensorProto.DataType.Value(_ONNX_NAMES[values.dtype.name])
        initializer = proto.graph.initializer.add(
            name=name, data_type=kind, dims=values.shape, data_location=TensorProto.EXTERNAL
        )
        place = {"location": where, "offset": _offset(bundle / where, values), "length": values.nbytes}
        for key, value in place.items():
            initializer.external_data.add(key=key, value=str(value))


def _offset(variables: Path, values: np.ndarray) -> int:
    """Where a table's bytes begin in the file of variables. Raises BundleError when they are not there as they are."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    # by the first bytes that are not those of the padding's row, which is zeros like much else
    first = int(np.argmax(flat != 0)) if flat.any() else 0
    probe = flat[first : first + _PROBE].tobytes()
    with variables.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(probe)
        while at >= 0:
            start = at - first
            if start >= 0 and start + len(flat) <= len(data) and _equal(data, start, flat):
                return start
            at = data.find(probe, at + 1)
    raise BundleError(f"{variables}: a table of {len(flat):,} bytes is not in it as it is in memory")


def _equal(data: mmap.mmap, start: int, flat: np.ndarray) -> bool:
    block = 1 << 26
    return all(
        data[start + at : start + min(at + block, len(flat))] == flat[at : at + block].tobytes()
        for at in range(0, len(flat), block)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """tf2onnx tells every step on the root logger's level."""
    logger = logging.getLogger("tf2onnx")
    former = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(former)
