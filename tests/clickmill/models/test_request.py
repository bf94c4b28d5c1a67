"""A request with n candidates against the same rows written out."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.features import Encoder, FeatureSpace, Moments, tensors
from clickmill.features.sides import request_signature, shared_fields
from clickmill.models import MODELS, build, request_form

AUCTION = """
name: auction
fields:
  event_time: {role: event_time, dtype: timestamp}
  user: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 20}}
  size: {role: ad, dtype: string, encoding: {kind: hash, buckets: 5}}
  age: {role: user, dtype: int64, encoding: {kind: standardize}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  seen: {role: cross, dtype: float32, encoding: {kind: log1p}}
  user_ad: {role: cross, encoding: {kind: cross, of: [user, ad], buckets: 30}}
  user_page: {role: cross, encoding: {kind: cross, of: [user, page], buckets: 30}}
  hour: {role: context, encoding: {kind: hour, of: event_time}}
  words: {role: ad, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 40}, max_length: 4}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 5}}
  pages: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 20}, max_length: 3}}
  position: {role: position, dtype: int64}
  label: {role: label, dtype: int64}
"""
_KNOWN = {"user": pa.array([f"u{i}" for i in range(6)]), "ad": pa.array(range(9), pa.int64())}
SPACE = FeatureSpace(
    loads(AUCTION),
    _KNOWN,
    moments={"age": Moments(30.0, 10.0), "price": Moments(0.5, 2.0), "seen": Moments(0.0, 1.0)},
    positions=4,
)


def _request(candidates: int, seed: int) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Raw tensors of a random request, and of the same rows written out."""
    rng = np.random.default_rng(seed)
    user = {
        "event_time": int(rng.integers(0, 2_000_000_000)),
        "user": f"u{rng.integers(0, 8)}",
        "page": f"p{rng.integers(0, 30)}",
        "age": int(rng.integers(10, 90)),
        "history": rng.integers(0, 12, rng.integers(0, 6)).tolist(),
        "pages": [f"p{i}" for i in rng.integers(0, 30, rng.integers(0, 4))],
    }
    ads = [
        {
            "ad": int(rng.integers(0, 12)),
            "size": f"s{rng.integers(0, 6)}",
            "price": float(rng.uniform(0, 50)),
            "seen": float(rng.integers(0, 9)),
            "words": [f"w{i}" for i in rng.integers(0, 50, rng.integers(0, 5))],
            "position": int(rng.integers(1, 7)),
        }
        for _ in range(candidates)
    ]
    rows = tensors.from_rows([{**user, **ad} for ad in ads], SPACE.contract)
    written_out = {name: tf.constant(values) for name, values in rows.items()}
    shared = shared_fields(SPACE.contract)
    return {k: v[:1] if k in shared else v for k, v in written_out.items()}, written_out


def test_the_sides_of_a_contract():
    assert shared_fields(SPACE.contract) == {
        "event_time", "user", "page", "age", "user_page", "hour", "history", "pages",
    }  # fmt: skip


def test_the_signature_has_one_row_for_what_is_shared():
    signature = request_signature(SPACE.contract)
    assert list(signature) == list(SPACE.contract.inputs)
    assert signature["user"].shape.as_list() == [1]
    assert signature["history"].shape.as_list() == [1, None]
    assert signature["ad"].shape.as_list() == [None]
    assert signature["words"].shape.as_list() == [None, None]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(SPACE)


@given(candidates=st.integers(1, 7), seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_a_request_is_encoded_to_the_rows_it_stands_for(encoder, candidates, seed):
    once, written_out = _request(candidates, seed)
    got, expected = encoder.request(once), encoder(written_out)
    for kind, names in (("slots", [s.name for s in SPACE.slots]), ("numerics", SPACE.numerics)):
        shared = [i for i, name in enumerate(names) if name in shared_fields(SPACE.contract)]
        others = [i for i in range(len(names)) if i not in shared]
        assert got[f"{kind}/shared"].shape == (1, len(shared))
        for row in expected[kind].numpy():
            np.testing.assert_array_equal(got[f"{kind}/shared"][0], row[shared])
        np.testing.assert_array_equal(got[f"{kind}/candidate"], expected[kind].numpy()[:, others])
    for name in ("history", "pages"):
        assert got[f"list/{name}"].shape[0] == 1
        for row in expected[f"list/{name}"].numpy():
            np.testing.assert_array_equal(got[f"list/{name}"][0], row)
    np.testing.assert_array_equal(got["list/words"], expected["list/words"])
    np.testing.assert_array_equal(got["position"], expected["position"])


CASES = {
    **{name: (name, {}) for name in MODELS},
    "dcn_v2, low rank": ("dcn_v2", {"rank": 3}),
    "dcn_v2, one cross": ("dcn_v2", {"cross_layers": 1}),
    "dcn_v2, no tower": ("dcn_v2", {"units": (), "cross_layers": 2}),
    "dcn_v2, experts": ("dcn_v2", {"rank": 3, "experts": 2}),
    "din, softmax and dice": ("din", {"softmax": True, "activation": "dice", "attention_units": (6, 4)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_request_has_the_logits_of_the_rows_it_stands_for(case, encoder):
    name, config = CASES[case]
    model = build(name, SPACE, config)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.15, variable.shape))
    form = request_form(model, SPACE)

    @tf.function(input_signature=[request_signature(SPACE.contract)])
    def logits(raw):
        return form(encoder.request(raw), training=False)

    for candidates, seed in ((1, 0), (2, 1), (9, 2), (9, 3)):
        once, written_out = _request(candidates, seed)
        expected = model(encoder(written_out), training=False).numpy()
        assert len(np.unique(expected)) == candidates
        np.testing.assert_allclose(logits(once), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_mix_of_inputs_has_a_request_form(name, any_space, encoded):
    """Contracts without users, without ads' fields, without slots: what is there has the logits it has row by row."""
    model = build(name, any_space)
    form = request_form(model, any_space)
    batch = encoded(any_space, 5)
    shared = shared_fields(any_space.contract)
    feed = {}
    for key, value in batch.items():
        if key in ("slots", "numerics"):
            names = [s.name for s in any_space.slots] if key == "slots" else any_space.numerics
            once = [i for i, field in enumerate(names) if field in shared]
            value[:, once] = value[:1, once]
            others = [i for i in range(len(names)) if i not in once]
            feed |= {f"{key}/shared": value[:1, once]} if once else {}
            feed |= {f"{key}/candidate": value[:, others]} if others else {}
        elif key.removeprefix("list/") in shared:
            value[:] = value[:1]
            feed[key] = value[:1]
        else:
            feed[key] = value
    np.testing.assert_allclose(form(feed, training=False), model(batch, training=False), rtol=1e-6, atol=1e-6)


def _rows_seen_by(form, layer_class, feed) -> set[int]:
    """Leading sizes of the first argument that layers of a class get while the form runs."""
    seen = set()
    original = layer_class.call

    def spy(self, x, *args, **kwargs):
        seen.add(int(x.shape[0]))
        return original(self, x, *args, **kwargs)

    layer_class.call = spy
    try:
        form(feed, training=False)
    finally:
        layer_class.call = original
    return seen


def test_the_history_is_extracted_once_however_many_candidates_there_are(encoder):
    from clickmill.models.attention import LocalActivationUnit
    from clickmill.models.gru import InterestEvolution, InterestExtractor

    feed = encoder.request(_request(7, 0)[0])
    dien = request_form(build("dien", SPACE), SPACE)
    assert _rows_seen_by(dien, InterestExtractor, feed) == {1}
    assert _rows_seen_by(dien, InterestEvolution, feed) == {1}
    din = request_form(build("din", SPACE), SPACE)
    assert _rows_seen_by(din, LocalActivationUnit, feed) == {1}


def test_the_users_columns_are_multiplied_once_in_a_towers_first_layer_and_in_the_outer_crosses(encoder):
    from clickmill.models.cross import Cross
    from clickmill.models.tower import Dense

    model = build("dcn_v2", SPACE, {"cross_layers": 3, "units": (5, 4)})
    form, feed = request_form(model, SPACE), encoder.request(_request(7, 0)[0])
    widths: list[tuple[str, int]] = []
    original = {kind: kind.call for kind in (Cross, Dense)}

    def spied(kind):
        def call(self, x, *args, **kwargs):
            widths.append((self.name, int(x.shape[0])))
            return original[kind](self, x, *args, **kwargs)

        return call

    for kind in original:
        kind.call = spied(kind)
    try:
        form(feed, training=False)
    finally:
        for kind, call in original.items():
            kind.call = call
    # whole layers over all candidates: the middle cross and the tower's second; the others are apart
    assert sorted(widths) == [("cross_1", 7), ("deep_1", 7)]


def test_the_request_form_follows_the_weights_of_its_model(encoder):
    once, written_out = _request(3, 5)
    model = build("lr", SPACE)
    form = request_form(model, SPACE)
    model.get_layer("linear").table.assign(np.ones(model.get_layer("linear").table.shape))
    np.testing.assert_allclose(form(encoder.request(once)), model(encoder(written_out)), rtol=1e-6)
    assert not (form(encoder.request(once)).numpy() == 0).any()


def test_a_request_form_leaves_its_model_as_it_was(tmp_path, recwarn):
    model = build("din", SPACE)
    names = [layer.name for layer in model.layers]
    request_form(model, SPACE)
    assert [layer.name for layer in model.layers] == names
    model.save_weights(tmp_path / "model.weights.h5")
    build("din", SPACE, seed=3).load_weights(tmp_path / "model.weights.h5")
    assert not [str(warning.message) for warning in recwarn if "inputs" in str(warning.message)]
