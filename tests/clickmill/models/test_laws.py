"""Laws every model of the registry keeps; a new model is under them by enrolling."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from clickmill.contract import dumps, loads
from clickmill.errors import UsageError
from clickmill.features import Encoder, FeatureSpace, tensors
from clickmill.models import MODELS, DCNv2Config, build, configure
from clickmill.models.embedding import FusedEmbedding

VARIANTS = {
    "dcn_v2 of experts": ("dcn_v2", {"rank": 3, "experts": 2}),
    "din with dice": ("din", {"activation": "dice", "attention_units": [6, 4]}),
    "din with softmax": ("din", {"softmax": True, "attention_units": []}),
    "din of the paper": ("din", {"recency": False, "product": False}),
    "dien of the paper": ("dien", {"product": False}),
    "dien without auxiliary loss": ("dien", {"auxiliary_weight": 0}),
}
"""Settings that change what a model is made of; they meet the laws that their layers could break."""

every_model = pytest.mark.parametrize("name", MODELS)
every_build = pytest.mark.parametrize("name", [*MODELS, *VARIANTS])


def _built(name: str, space: FeatureSpace, **options: int) -> keras.Model:
    model, config = VARIANTS.get(name, (name, None))
    return build(model, space, config, **options)


def _stir(model: keras.Model, seed: int = 1) -> keras.Model:
    """Give every weight a random value (padding rows stay zero), so that no law holds because weights start at zero."""
    rng = np.random.default_rng(seed)
    tables = {id(layer.table) for layer in model.layers if isinstance(layer, FusedEmbedding)}
    for variable in model.trainable_variables:
        values = rng.normal(0, 0.3, variable.shape).astype(np.float32)
        if id(variable) in tables:
            values[0] = 0.0
        variable.assign(values)
    return model


def _logits(model, batch) -> np.ndarray:
    return model(batch, training=False).numpy()


@every_model
def test_the_logit_is_one_float32_per_row(name, any_space, encoded):
    logits = _logits(_stir(build(name, any_space)), encoded(any_space, 7))
    assert logits.shape == (7,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert len(np.unique(logits)) > 4  # it reads its inputs; two histories may both be empty


@every_build
def test_unknown_ids_and_empty_histories_have_a_finite_logit(name, space):
    raw = tensors.from_rows(
        [{"user": "nobody", "ad": -5, "page": "nowhere", "history": []}, {}], space.contract
    )
    logits = _logits(_stir(_built(name, space)), Encoder(space).encode(raw))
    assert np.isfinite(logits).all()


@every_model
def test_saved_weights_give_the_same_logits(name, any_space, encoded, tmp_path):
    model, batch = _stir(build(name, any_space, seed=1)), encoded(any_space, 20)
    model.save_weights(tmp_path / "model.weights.h5")
    other = build(name, any_space, seed=2)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(_logits(other, batch), _logits(model, batch))


@every_build
def test_the_order_of_the_batch_does_not_matter(name, space, encoded):
    model, batch = _stir(_built(name, space)), encoded(space, 33)
    order = np.random.default_rng(3).permutation(33)
    shuffled = {key: value[order] for key, value in batch.items()}
    np.testing.assert_allclose(_logits(model, shuffled), _logits(model, batch)[order], rtol=1e-5, atol=1e-5)


@every_build
def test_padding_of_a_list_does_not_matter(name, space, encoded):
    batch = encoded(space, 20)
    wide_history = loads(dumps(space.contract).replace("max_length: 5", "max_length: 11"))
    wide_space = dataclasses.replace(space, contract=wide_history)
    model, wide_model = _stir(_built(name, space)), _stir(_built(name, wide_space))
    padded = {**batch, "list/history": np.pad(batch["list/history"], ((0, 0), (0, 6)))}
    np.testing.assert_allclose(_logits(wide_model, padded), _logits(model, batch), rtol=1e-5, atol=1e-5)


@every_model
def test_sixty_four_rows_are_learned_by_heart(name, space, encoded):
    batch = encoded(space, 64)
    # Rows a linear model can tell apart too: each has a page of its own half, and noise elsewhere.
    label = (batch["slots"][:, 2] % 2).astype(np.float32)
    model = build(name, space, seed=4)
    adam = keras.optimizers.Adam(0.03)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(label, model(batch, training=False))
            )
        adam.apply(
            tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables
        )
        return loss

    for _ in range(80):
        loss = step()
    assert float(loss) < 0.1
    assert ((_logits(model, batch) > 0) == (label > 0)).all()


@every_model
def test_the_position_shifts_all_ads_alike(name, space, encoded):
    model, batch = _stir(build(name, space)), encoded(space, 40)
    at = [_logits(model, {**batch, "position": np.full(40, p, np.int32)}) for p in range(space.positions)]
    shift = model.get_layer("position_bias").shift.numpy()
    for p in range(1, space.positions):
        np.testing.assert_allclose(at[p] - at[0], shift[p] - shift[0], rtol=1e-4, atol=1e-4)


@every_model
def test_a_new_model_has_no_opinion_on_positions(name, space):
    assert not build(name, space).get_layer("position_bias").shift.numpy().any()


@every_model
def test_the_seed_decides_the_weights(name, space):
    one, same, other = (build(name, space, seed=seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    # LR starts at zero whatever the seed; all others draw.
    differs = any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert differs == (name != "lr")


@every_build
def test_the_padding_row_is_zero_and_gets_no_gradient(name, space, encoded):
    model, batch = _built(name, space), encoded(space, 30)
    assert (batch["list/history"] == 0).any()
    for layer in (layer for layer in model.layers if isinstance(layer, FusedEmbedding)):
        assert not layer.table.numpy()[0].any()
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(model(batch, training=True) ** 2), *model.losses])
        gradient = tape.gradient(loss, layer.table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        at_padding = gradient.values.numpy()[gradient.indices.numpy() == 0]
        assert len(at_padding)
        assert not at_padding.any()


@every_model
def test_ids_and_lists_share_one_table_per_width(name, space):
    widths = [layer.width for layer in build(name, space).layers if isinstance(layer, FusedEmbedding)]
    assert len(widths) == len(set(widths))


@every_model
def test_every_model_names_its_paper_and_explains_its_settings(name):
    entry = MODELS[name]
    assert entry.name == name
    module = inspect.getmodule(entry.build)
    assert module.__name__.endswith(name)
    assert "logit" in module.__doc__
    assert entry.paper.split(" et al")[0].split(",")[0] in module.__doc__
    for field, info in entry.config.model_fields.items():
        assert info.description, f"{name}: setting `{field}` has no docstring"


def test_an_unknown_model_is_refused_with_the_names_there_are():
    with pytest.raises(
        UsageError, match="no model is called 'xgboost'; there are lr, fm, wide_deep, dcn, dcn_v2"
    ):
        configure("xgboost")


def test_an_unknown_setting_is_refused_with_the_settings_there_are():
    with pytest.raises(
        UsageError, match=r"configuration of model `fm`: units: .*It knows: position, dim, deviation"
    ):
        configure("fm", {"units": [3]})


def test_the_settings_of_another_model_are_refused():
    with pytest.raises(UsageError, match="model `fm` takes a FMConfig; got a DCNv2Config"):
        configure("fm", DCNv2Config())
