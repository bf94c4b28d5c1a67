"""Rows in half or a third of the bytes: the error is bounded, the graph and the Python path read the same ones, training reads none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clickmill import bundle as bundles
from clickmill.bundle import ExportConfig
from clickmill.bundle.stored_rows import served, stored, tables_of
from clickmill.features import tensors

tables = arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(5, 9)), elements=st.floats(-50, 50, width=32)
)


@given(tables)
def test_an_int8_row_is_off_by_at_most_half_a_step_of_its_own_scale(table):
    kept = stored(table, "int8")
    assert kept.values.dtype == np.int8
    half = np.abs(table).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(kept.widened() - table) <= half * (1 + 1e-4) + 1e-30).all()


@given(tables)
def test_a_bfloat16_weight_is_off_by_at_most_one_in_256(table):
    assert (np.abs(stored(table, "bfloat16").widened() - table) <= np.abs(table) / 256 + 1e-38).all()


def test_int8_by_hand():
    table = np.array([[127.0, -127.0, 63.4, 0.4, 0.6], [0.0] * 5, [0.0, 1.0, -0.5, 0.25, 0.0]], np.float32)
    kept = stored(table, "int8")
    # 0.5 of 1/127 steps is 63.5, which rounds to the even 64; 0.25 is 31.75
    assert kept.values.tolist() == [[127, -127, 63, 0, 1], [0] * 5, [0, 127, -64, 32, 0]]
    assert kept.scale is not None
    assert kept.scale[:, 0] == pytest.approx([1.0, 0.0, 1 / 127])
    assert kept.widened()[1].tolist() == [0.0] * 5, "the padding stays zero"
    assert kept.bytes == 3 * (5 + 4)


def test_a_narrow_table_is_no_smaller_in_int8_and_is_kept_in_bfloat16():
    assert stored(np.ones((7, 4), np.float32), "int8").bytes == 7 * 4 * 2
    assert stored(np.ones((7, 1), np.float32), "int8").scale is None


@pytest.fixture(scope="module")
def light(trained, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("light") / "bundle"
    return bundles.build_bundle(
        trained, dataset, out, method="platt", resamples=40, export=ExportConfig(rows="int8")
    )


def test_the_bundle_answers_by_its_rounded_rows_and_says_what_they_cost(light, bundle, trained, dataset):
    assert light.check_golden() >= 64
    raw = tensors.from_arrow(next(iter(dataset.scan("test"))), trained.contract)
    by_hand = light.calibration.pctr(served(trained, "int8").trained.raw_logits(raw))
    answers = light.predict(raw)["pctr"]
    assert np.abs(answers - by_hand).max() < 1e-5
    assert np.abs(answers - bundle.predict(raw)["pctr"]).max() > 1e-5, "they are not the float32 rows"
    facts = light.manifest.export
    assert facts.rows == "int8"
    # the table of this model is of width 4, which int8 leaves in bfloat16
    assert facts.table_bytes * 2 == facts.float32_bytes == 4 * 4 * trained.space.table_rows
    assert facts.ne_float32 == pytest.approx(bundle.evaluation.normalized_entropy.value, abs=1e-9)
    loss = light.evaluation.normalized_entropy.value / facts.ne_float32 - 1
    assert facts.relative_ne_loss == pytest.approx(loss, abs=1e-12)
    assert abs(loss) < 0.001
    assert "embedding rows in int8" in (light.path / "card.md").read_text()


def test_only_the_rounded_rows_are_in_the_graph(light, bundle, trained):
    rows = (trained.space.table_rows, 4)

    def of_that_shape(b):
        found = tf.train.list_variables(str(b.saved_model / "variables" / "variables"))
        return [
            name for name, shape in found if tuple(shape) == rows and "OPTIMIZER" not in name
        ], tf.train.load_checkpoint(str(b.saved_model / "variables" / "variables"))

    names, checkpoint = of_that_shape(light)
    assert [checkpoint.get_variable_to_dtype_map()[name] for name in names] == [tf.bfloat16]
    names, checkpoint = of_that_shape(bundle)
    assert [checkpoint.get_variable_to_dtype_map()[name] for name in names] == [tf.float32]


def test_a_warm_start_reads_the_rows_as_they_were_learned(light, trained):
    ours, theirs = (tables_of(m.keras_model)[0].table for m in (light.trained(), trained))
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_float32_is_the_model_itself(trained, bundle):
    assert served(trained).trained is trained
    assert bundle.manifest.export.relative_ne_loss is None
    assert bundle.manifest.export.table_bytes == bundle.manifest.export.float32_bytes
