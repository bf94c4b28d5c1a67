"""bfloat16 products and XLA train the model that float32 without XLA trains, within what 8 bits of mantissa allow."""

import numpy as np
import pytest
import tensorflow as tf

from clickmill.features import Encoder
from clickmill.models import MODELS, build
from clickmill.models.precision import product, products_in
from clickmill.training import TrainingConfig
from clickmill.training.encoded import encode
from clickmill.training.step import TrainStep

DEEP = [name for name in MODELS if name not in ("lr", "fm")]


def test_a_product_in_bfloat16_rounds_its_factors_and_returns_float32():
    a, b = tf.constant([[1.0 + 2**-10, 2.0]]), tf.constant([[1.0], [1.0]])
    with products_in("bfloat16"):
        low = product(a, b)
    assert low.dtype == tf.float32
    assert low.numpy().item() == 3.0  # 1 + 2^-10 has no place in 8 bits
    assert product(a, b).numpy().item() == 3.0 + 2**-10


def _trained(name, batches, space, **settings):
    model = build(name, space, {"dropout": 0.0} if "dropout" in MODELS[name].config.model_fields else None)
    step = TrainStep(model, TrainingConfig(**settings), batches[0])
    losses = [step(batch) for batch in batches]
    return losses, model


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"xla": True}], ids=["bfloat16", "xla"])
@pytest.mark.parametrize("name", ["dcn_v2", "din"])
def test_the_same_model_comes_out(name, settings, dataset, space, tmp_path):
    batches = list(encode(dataset, "train", Encoder(space), tmp_path).batches(256))  # the last is smaller
    expected, exact = _trained(name, batches, space)
    losses, model = _trained(name, batches, space, **settings)
    tolerance = 0.01 if "precision" in settings else 2e-3
    np.testing.assert_allclose(
        losses[:2], expected[:2], rtol=tolerance / 10
    )  # the first pass, and the first step
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    inputs = {key: batches[0][key] for key in model.input}
    logits, reference = (m(inputs).numpy() for m in (model, exact))
    # Adam makes whole steps of the last bits of gradients near zero: rows differ, the model hardly does (its logits spread over 0.5).
    assert np.sqrt(np.mean((logits - reference) ** 2)) < 10 * tolerance
    assert not np.array_equal(logits, reference)  # the setting did something
    assert model(inputs).dtype == tf.float32


@pytest.mark.parametrize("name", DEEP)
def test_every_model_with_towers_rounds_them(name, space):
    batch = {
        key: np.zeros((2, *value.shape[1:]), value.dtype) for key, value in build(name, space).input.items()
    }
    batch["label"] = np.zeros(2, np.float32)
    step = TrainStep(build(name, space), TrainingConfig(precision="bfloat16"), batch)
    operations = step._run.get_concrete_function().graph.get_operations()
    products = [operation for operation in operations if "MatMul" in operation.type]
    assert any(operation.outputs[0].dtype == tf.bfloat16 for operation in products)
