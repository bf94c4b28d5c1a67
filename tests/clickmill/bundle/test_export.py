"""The one graph gives what the model and its calibration give in Python, to anyone who loads it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from clickmill.bundle import Bundle, export
from clickmill.bundle.graph import ClickGraph
from clickmill.contract import loads
from clickmill.errors import BundleCorrupt, ContractError, RequestError
from clickmill.features import tensors


@pytest.fixture(scope="module")
def raw(dataset):
    return tensors.from_arrow(dataset.columns("test", list(dataset.contract.inputs)), dataset.contract)


def test_the_graph_gives_the_probability_of_the_python_path(bundle, trained, raw):
    raw_logit = trained.raw_logits(raw).astype(np.float64)
    # the calibration in plain arithmetic: half of the non-clicks kept, a click weighed 3, then Platt
    platt = bundle.calibration.calibrator
    logit = platt.slope * (raw_logit + np.log(0.5) - np.log(3.0)) + platt.intercept
    got = bundle.predict(raw)
    assert platt.kind == "platt"
    np.testing.assert_allclose(got["logit"], logit, atol=1e-5)
    np.testing.assert_allclose(got["pctr"], 1 / (1 + np.exp(-logit)), atol=1e-5)


def test_the_logit_is_the_log_odds_of_the_probability(bundle, raw):
    got = bundle.predict(raw)
    p = got["pctr"].astype(np.float64)
    np.testing.assert_allclose(np.log(p / (1 - p)), got["logit"], atol=1e-4)
    assert {name: (v.dtype, v.shape) for name, v in got.items()} == {
        "pctr": (np.float32, (len(p),)),
        "logit": (np.float32, (len(p),)),
    }


def test_one_row_at_a_time_is_all_rows_at_once_and_no_rows_are_no_rows(bundle, raw):
    whole = bundle.predict({name: v[:20] for name, v in raw.items()})["pctr"]
    single = [bundle.predict({name: v[i : i + 1] for name, v in raw.items()})["pctr"][0] for i in range(20)]
    np.testing.assert_allclose(single, whole, atol=1e-6)
    assert bundle.predict({name: v[:0] for name, v in raw.items()})["pctr"].shape == (0,)


def test_a_process_without_clickmill_and_keras_can_serve_it(bundle, raw, tmp_path):
    script = textwrap.dedent("""
        import json, sys
        import tensorflow as tf
        plain = set(sys.modules)  # tensorflow brings a few modules of keras itself
        graph = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
        outputs = graph(
            user_id=tf.constant(["u1", "nobody"]), segment=tf.constant(["a", "b"]),
            ad_id=tf.constant([3, 4], tf.int64), price=tf.constant([1.0, 2.0]), quality=tf.constant([0.0, 1.0]),
            age=tf.constant([20, 30], tf.int64), site=tf.constant(["site1", ""]), logged_in=tf.constant([True, False]),
            shown_at=tf.constant([1793500000, 1793503600], tf.int64),
            clicked_ads=tf.constant([[3, 5], [7, 7]], tf.int64), topics=tf.constant([["t1"], [""]]),
            position=tf.constant([1, 2], tf.int64),
        )
        more = {m.split(".")[0] for m in set(sys.modules) - plain}
        assert not more & {"clickmill", "keras"}, more
        print(json.dumps({name: value.numpy().tolist() for name, value in outputs.items()}))
    """)
    command = [sys.executable, "-c", script, str(bundle.saved_model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    got = json.loads(done.stdout.splitlines()[-1])
    same = {
        "user_id": "u1",
        "segment": "a",
        "ad_id": 3,
        "price": 1.0,
        "quality": 0.0,
        "age": 20,
        "site": "site1",
    }
    same |= {
        "logged_in": True,
        "shown_at": 1793500000,
        "clicked_ads": [3, 5],
        "topics": ["t1"],
        "position": 1,
    }
    other = {
        "user_id": "nobody",
        "segment": "b",
        "ad_id": 4,
        "price": 2.0,
        "quality": 1.0,
        "age": 30,
        "site": "",
    }
    other |= {"logged_in": False, "shown_at": 1793503600, "clicked_ads": [7, 7], "topics": [], "position": 2}
    ours = bundle.predict(tensors.from_rows([same, other], bundle.contract))
    assert set(got) == {"pctr", "logit"}
    np.testing.assert_allclose(got["pctr"], ours["pctr"], atol=1e-6)


def test_rows_as_examples_give_the_probability_of_rows(bundle):
    """What TF Serving's Classify and Regress would run, and their method names, without which it refuses."""
    import tensorflow as tf

    def example(**features):
        made = tf.train.Example()
        for name, values in features.items():
            kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
            getattr(made.features.feature[name], kind).value.extend(values)
        return made.SerializeToString()

    long = list(range(1, 60))
    rows = [
        {"user_id": "u1", "segment": "a", "ad_id": 3, "price": 1.5, "age": 20, "logged_in": True, "topics": ["t1", "t2"]},
        {"user_id": "u2", "segment": "b", "ad_id": 4, "price": 2.5, "age": 30, "clicked_ads": long},
    ]  # fmt: skip
    serialized = [
        example(user_id=[b"u1"], segment=[b"a"], ad_id=[3], price=[1.5], age=[20], logged_in=[1], topics=[b"t1", b"t2"]),
        example(user_id=[b"u2"], segment=[b"b"], ad_id=[4], price=[2.5], age=[30], clicked_ads=long),
    ]  # fmt: skip
    pctr = bundle.predict(tensors.from_rows(rows, bundle.contract))["pctr"]
    signatures = tf.saved_model.load(str(bundle.saved_model)).signatures
    np.testing.assert_allclose(
        signatures["regress"](inputs=tf.constant(serialized))["outputs"], pctr, atol=1e-6
    )
    scores = signatures["classify"](inputs=tf.constant(serialized))["scores"]
    np.testing.assert_allclose(scores, np.stack([1 - pctr, pctr], axis=1), atol=1e-6)
    file = saved_model_pb2.SavedModel.FromString((bundle.saved_model / "saved_model.pb").read_bytes())
    methods = {name: s.method_name for name, s in file.meta_graphs[0].signature_def.items()}
    assert methods["serving_default"] == "tensorflow/serving/predict"
    assert (methods["classify"], methods["regress"]) == (
        "tensorflow/serving/classify",
        "tensorflow/serving/regress",
    )


def test_the_signature_names_the_contracts_inputs_and_nothing_else(bundle):
    assert set(bundle.graph.inputs) == set(bundle.contract.inputs)


def test_the_graph_holds_no_operation_of_training(bundle):
    import tensorflow as tf

    function = tf.saved_model.load(str(bundle.saved_model)).signatures["serving_default"]
    library = function.graph.as_graph_def().library.function
    kinds = {node.op for f in library for node in f.node_def}
    assert kinds, "the traced function must be in the library"
    assert not [op for op in kinds if op.startswith(("ResourceApply", "ResourceSparseApply"))]
    assert not kinds & {
        "RandomUniform",
        "StatelessRandomUniformV2",
        "AssignVariableOp",
        "AssignAddVariableOp",
    }


def test_a_missing_field_and_a_wrong_type_are_named(bundle, raw):
    short = {name: v[:2] for name, v in raw.items() if name != "ad_id"}
    with pytest.raises(RequestError, match="field `ad_id` is missing; the graph reads"):
        bundle.predict(short)
    wrong = {**short, "ad_id": np.array(["x", "y"], dtype=object)}
    with pytest.raises(RequestError, match="wrong type or shape"):
        bundle.predict(wrong)


def test_columns_of_different_length_are_a_malformed_request(bundle, raw):
    uneven = {name: v[:2] for name, v in raw.items()} | {"price": raw["price"][:3]}
    with pytest.raises(RequestError, match="rows of the inputs do not fit together"):
        bundle.predict(uneven)


def test_a_folder_without_a_graph_is_corrupt(tmp_path):
    with pytest.raises(BundleCorrupt, match="holds no graph with the signature serving_default"):
        ClickGraph(tmp_path)


def test_a_field_named_like_an_output_is_refused():
    contract = loads(
        "name: x\nfields:\n  logit: {role: ad, dtype: float32, encoding: {kind: log1p}}\n"
        "  label: {role: label, dtype: int64}\n"
    )
    with pytest.raises(ContractError, match=r"fields\.logit: the graph's outputs are called pctr and logit"):
        export.refuse_output_names(contract)


def test_many_threads_get_their_own_answers(bundle: Bundle, raw):
    from concurrent.futures import ThreadPoolExecutor

    rows = [{name: v[i : i + 1] for name, v in raw.items()} for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda row: bundle.predict(row)["pctr"][0], rows))
    whole = bundle.predict({name: v[:64] for name, v in raw.items()})["pctr"]
    np.testing.assert_allclose(got, whole, atol=1e-6)


def test_a_number_however_large_gets_a_probability(bundle, raw):
    row = {name: v[:1] for name, v in raw.items()}
    for far in (np.finfo(np.float32).max, np.finfo(np.float32).min):
        answers = bundle.predict({**row, "quality": np.array([far], np.float32)})
        assert np.isfinite(answers["logit"]).all()
        assert 0 <= answers["pctr"][0] <= 1
