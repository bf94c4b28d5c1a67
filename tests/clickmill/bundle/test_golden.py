"""Golden predictions: rows where transforms break, and a graph that moved is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill import bundle as bundles
from clickmill.bundle import golden
from clickmill.errors import BundleError, GoldenMismatch
from clickmill.features import tensors
from clickmill.features.raw import length, take, to_arrow


@pytest.fixture(scope="module")
def table(bundle):
    return pq.read_table(bundle.path / "golden.parquet")


def test_a_fresh_load_reproduces_them(bundle):
    fresh = bundles.load(bundle.path)
    assert fresh.check_golden() == fresh.golden_rows == bundle.golden_rows
    assert 64 <= fresh.golden_rows <= 256


def test_they_cover_what_breaks_transforms(table, bundle):
    cases = table["__case__"].to_pylist()
    for wanted in (
        "real",
        "all defaults",
        "all unknown",
        "unknown user_id",
        "unknown ad_id",
        "empty clicked_ads",
        "full clicked_ads",
        "price = 0.0",
        "price = 1000.0",
        "age = 13",
        "age = 120",
        "quality = -3.4028234663852886e+38",
        "quality = 0",
        "quality = 3.4028234663852886e+38",
        "shown_at = -1",
        "logged_in = True",
        *(f"position {n}" for n in range(1, 5)),
    ):
        assert wanted in cases
    assert "unknown segment" not in cases, "the contract lets no other segment through"
    by_case = {case: table.slice(i, 1).to_pylist()[0] for i, case in reversed(list(enumerate(cases)))}
    assert by_case["empty clicked_ads"]["clicked_ads"] == []
    assert len(by_case["full clicked_ads"]["clicked_ads"]) == 3
    assert by_case["all defaults"]["segment"] == "a"
    assert by_case["all defaults"]["age"] == 30


def test_every_made_row_is_one_a_request_may_be(table, bundle):
    sent = table.select(list(bundle.contract.inputs)).to_pylist()
    raw = tensors.from_rows(sent, bundle.contract)  # raises RequestError for an illegal one
    np.testing.assert_allclose(bundle.predict(raw)["pctr"], table["pctr"].to_numpy(), atol=1e-6)


def test_real_rows_come_from_the_calibration_split(table, dataset):
    names = ["user_id", "ad_id", "shown_at", "request_id"]
    known = {tuple(r.values()) for r in dataset.columns("calibration", names[:3]).to_pylist()}
    real = [r for r in table.to_pylist() if r["__case__"] == "real"]
    assert len(real) == 64
    assert all((r["user_id"], r["ad_id"], r["shown_at"]) in known for r in real)


def test_another_graph_is_refused_with_row_expected_and_got(bundle):
    def shifted(raw):
        answers = bundle.predict(raw)
        at = int(np.argmax(answers["pctr"] > 0.2))
        moved = answers["pctr"].copy()
        moved[at] += 0.125
        return {"pctr": moved, "logit": answers["logit"]}

    with pytest.raises(GoldenMismatch) as caught:
        golden.check(bundle.path, bundle.contract, shifted)
    words = str(caught.value)
    table = pq.read_table(bundle.path / "golden.parquet")
    at = int(np.argmax(table["pctr"].to_numpy() > 0.2))
    expected = table["pctr"][at].as_py()
    assert f"1 of {len(table)} golden predictions moved by more than 1e-05" in words
    assert (
        f"row {at} ({table['__case__'][at].as_py()}): pctr expected {expected:.7g}, got {expected + 0.125:.7g}"
        in words
    )
    assert f"ad_id={table['ad_id'][at].as_py()}" in words


def test_an_answer_that_is_no_number_never_passes(bundle):
    def broken(raw):
        answers = bundle.predict(raw)
        return {"pctr": np.full_like(answers["pctr"], np.nan), "logit": answers["logit"]}

    with pytest.raises(GoldenMismatch, match="got nan"):
        golden.check(bundle.path, bundle.contract, broken, tolerance=1.0)


def test_the_tolerance_is_the_callers(bundle):
    def nudged(raw):
        answers = bundle.predict(raw)
        return {"pctr": answers["pctr"] + np.float32(1e-3), "logit": answers["logit"]}

    assert golden.check(bundle.path, bundle.contract, nudged, tolerance=2e-3) == bundle.golden_rows
    with pytest.raises(GoldenMismatch):
        golden.check(bundle.path, bundle.contract, nudged, tolerance=5e-4)


def test_a_graph_that_answers_no_probability_is_not_written(tmp_path, bundle, dataset):
    raw = tensors.from_arrow(dataset.columns("test", list(bundle.contract.inputs)), bundle.contract)
    picked, cases = golden.pick(raw, bundle.contract, seed=1)

    def overflowing(batch):
        answers = bundle.predict(batch)
        huge = batch["quality"] > 1e38
        return {name: np.where(huge, np.float32(np.nan), values) for name, values in answers.items()}

    with pytest.raises(
        BundleError, match="pctr nan and logit nan for the row `all numbers at their greatest`"
    ):
        golden.write(tmp_path, picked, cases, bundle.contract, overflowing)
    assert not (tmp_path / "golden.parquet").exists()


def test_few_real_rows_repeat_and_none_is_an_error(bundle, dataset):
    raw = tensors.from_arrow(dataset.columns("test", list(bundle.contract.inputs)), bundle.contract)
    picked, cases = golden.pick(take(raw, slice(0, 2)), bundle.contract, seed=1)
    assert len(cases) == length(picked) >= 64
    assert cases.count("real") == 2
    with pytest.raises(BundleError, match="the split is empty"):
        golden.pick(take(raw, slice(0, 0)), bundle.contract, seed=1)


def test_rows_go_to_arrow_and_back_unchanged(bundle, dataset):
    columns = dataset.columns("test", list(bundle.contract.inputs))
    raw = tensors.from_arrow(columns, bundle.contract)
    back = to_arrow(raw, bundle.contract)
    filled = pa.compute.fill_null(columns["site"], "")
    assert back["site"].to_pylist() == filled.to_pylist()
    assert back["shown_at"].to_pylist() == columns["shown_at"].to_pylist()
    assert back["clicked_ads"].to_pylist() == [ids[-3:] for ids in columns["clicked_ads"].to_pylist()]
    assert back["topics"].to_pylist() == columns["topics"].to_pylist()
