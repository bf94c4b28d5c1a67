"""The one graph: raw fields in, calibrated click probability out, as one SavedModel.

    raw fields -> Encoder -> keras model -> prior correction and calibrator -> logit, pctr = sigmoid(logit)

Training encodes with the same Encoder, so the transform has no second version that could drift from the first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickmill.contract import FeatureContract
from clickmill.errors import ContractError

if TYPE_CHECKING:
    from clickmill.calibration import Calibration
    from clickmill.training import TrainedModel

SIGNATURE = "serving_default"
PCTR, LOGIT = "pctr", "logit"


def export(trained: TrainedModel, calibration: Calibration, folder: Path) -> None:
    """Write the SavedModel to `folder` (saved_model.pb, variables/, assets/ with the vocabularies).

    Signature `serving_default`: contract.inputs by name as `features.tensors.signature` says, batch dimension None;
    outputs `pctr` and `logit`, (batch,) float32. Raises ContractError when an input has the name of an output.
    """
    import tensorflow as tf

    from clickmill.calibration import graph
    from clickmill.features import tensors

    refuse_output_names(trained.contract)
    model, encoder = trained.keras_model, trained.encoder

    def raw_logit(raw: dict[str, Any]) -> Any:
        return model(encoder(raw), training=False)

    def calibrated(logit: Any) -> Any:
        return graph.apply(calibration, logit)

    module = tf.Module(name="clickmill")
    module.encoder = encoder
    # the variables and not the keras model: keras would add its own training functions and config to the file
    module.model_variables = [variable.value for variable in model.variables]
    save(module, raw_logit, calibrated, tensors.signature(trained.contract), folder)


def save(
    module: Any,
    raw_logit: Callable[[dict[str, Any]], Any],
    calibrated: Callable[[Any], Any],
    signature: dict[str, Any],
    folder: Path,
) -> None:
    """Trace calibrated(raw_logit(raw)) once with the given TensorSpecs and write it; `module` holds what it captures."""
    import tensorflow as tf

    def click_probability(**raw: Any) -> dict[str, Any]:
        logit = tf.reshape(calibrated(raw_logit(raw)), [-1])
        # the two outputs get different nodes even where the last op is already the logit: TF Serving refuses aliases
        return {PCTR: tf.sigmoid(logit, name=PCTR), LOGIT: tf.identity(logit, name=LOGIT)}

    module.click_probability = tf.function(click_probability, autograph=False)
    concrete = module.click_probability.get_concrete_function(
        **{name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in signature.items()}
    )
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: concrete})


def refuse_output_names(contract: FeatureContract) -> None:
    """Raises ContractError when a field would collide with an output of the graph or a column of the golden file."""
    for name in contract.inputs:
        if name in (PCTR, LOGIT):
            raise ContractError(
                f"fields.{name}: the graph's outputs are called {PCTR} and {LOGIT}; "
                f"rename the field and keep its source with `column: {name}`."
            )
