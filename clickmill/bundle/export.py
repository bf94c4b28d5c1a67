"""The one graph: raw fields in, calibrated click probability out, as one SavedModel.

    raw fields -> Encoder -> keras model -> prior correction and calibrator -> logit, pctr = sigmoid(logit)

Training encodes with the same Encoder, so the transform has no second version that could drift from the first. The graph can be
asked in two ways: by rows, or by one request whose user and context are given, encoded and looked up once for all its candidates;
rows also come as tf.Examples (see `examples`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickmill.bundle import examples
from clickmill.bundle.stored_rows import ServedModel, look_up, tables_of
from clickmill.contract import FeatureContract
from clickmill.errors import ContractError

if TYPE_CHECKING:
    from clickmill.calibration import Calibration

SIGNATURE = "serving_default"
"""Name of the signature that takes rows."""
RANKING = "ranking"
"""Name of the signature that takes one request with its candidates."""
PCTR, LOGIT = "pctr", "logit"

Forms = dict[str, tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]]
"""By signature: raw fields to raw logits, and the TensorSpecs of the raw fields."""


def export(served: ServedModel, calibration: Calibration, folder: Path) -> None:
    """Write the SavedModel to `folder` (saved_model.pb, variables/, assets/ with the vocabularies).

    Signature `serving_default`: contract.inputs by name as `features.tensors.signature` says, batch dimension None; signature
    `ranking`, where the contract has a field of the candidates: the same inputs as `features.sides.request_signature` says. Both:
    outputs `pctr` and `logit`, (rows,) float32. Signatures `classify` and `regress` take tf.Examples. Raises ContractError when an input has the name of an output.
    """
    import tensorflow as tf

    from clickmill.calibration import graph
    from clickmill.features import tensors
    from clickmill.features.sides import request_signature, shared_fields
    from clickmill.models.request import request_form

    trained = served.trained
    contract, encoder = trained.contract, trained.encoder
    refuse_output_names(contract)
    of_rows = trained.keras_model

    def by_rows(raw: dict[str, Any]) -> Any:
        return of_rows(encoder(raw), training=False)

    def by_request(raw: dict[str, Any]) -> Any:
        return of_request(encoder.request(raw), training=False)

    forms: Forms = {SIGNATURE: (by_rows, tensors.signature(contract))}
    if contract.inputs.keys() - shared_fields(contract):
        of_request = request_form(of_rows, trained.space)
        forms[RANKING] = (by_request, request_signature(contract))
    module = tf.Module(name="clickmill")
    module.encoder = encoder
    # the variables and not the keras model: keras would add its own training functions and config to the file
    rounded = [layer for layer in tables_of(of_rows) if layer.name in served.rounded]
    left_out = {id(layer.table) for layer in rounded}
    module.model_variables = [v.value for v in of_rows.variables if id(v) not in left_out]
    module.tables = [tf.Module(name=layer.name) for layer in rounded]
    with ExitStack() as reading:
        for layer, place in zip(rounded, module.tables, strict=True):
            reading.enter_context(layer.read_by(look_up(served.rounded[layer.name], place)))
        save(module, forms, lambda logit: graph.apply(calibration, logit), contract, folder)


def save(
    module: Any, forms: Forms, calibrated: Callable[[Any], Any], contract: FeatureContract, folder: Path
) -> None:
    """Trace calibrated(raw_logit(raw)) of each form and write them as signatures, with those of tf.Examples over `serving_default`.

    `module` holds what they capture.
    """
    import tensorflow as tf

    def traced(raw_logit: Callable[[dict[str, Any]], Any], specs: dict[str, Any]) -> Any:
        def click_probability(**raw: Any) -> dict[str, Any]:
            logit = tf.reshape(calibrated(raw_logit(raw)), [-1])
            # the two outputs get different nodes even where the last op is already the logit: TF Serving refuses aliases
            return {PCTR: tf.sigmoid(logit, name=PCTR), LOGIT: tf.identity(logit, name=LOGIT)}

        named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
        return tf.function(click_probability, autograph=False).get_concrete_function(**named)

    signatures = {name: traced(raw_logit, specs) for name, (raw_logit, specs) in forms.items()}
    signatures |= examples.signatures(signatures[SIGNATURE], contract, pctr=PCTR)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    examples.name_methods(folder)


def refuse_output_names(contract: FeatureContract) -> None:
    """Raises ContractError when a field would collide with an output of the graph or a column of the golden file."""
    for name in contract.inputs:
        if name in (PCTR, LOGIT):
            raise ContractError(
                f"fields.{name}: the graph's outputs are called {PCTR} and {LOGIT}; "
                f"rename the field and keep its source with `column: {name}`."
            )
