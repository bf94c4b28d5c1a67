"""A bundle on a dataset: the same predictions in any batch, judged by hand-made arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from clickmill import bundle as bundles
from clickmill.bundle import candidate, reference
from clickmill.bundle.judged_rows import weights
from clickmill.bundle.score import evaluate_predictions, groups, slices, truths
from clickmill.calibration import Calibration
from clickmill.contract import Role
from clickmill.errors import BundleCorrupt, BundleError, DataError, UsageError
from clickmill.features import tensors


@pytest.fixture(scope="module")
def test_rows(dataset) -> pd.DataFrame:
    return dataset.columns("test", list(dataset.contract.columns)).to_pandas()


@pytest.fixture(scope="module")
def pctr(bundle, dataset):
    return bundles.score(bundle, dataset, "test")


def test_scores_come_in_the_order_of_the_rows_whatever_the_batch(bundle, dataset, pctr, test_rows):
    np.testing.assert_allclose(bundles.score(bundle, dataset, "test", batch=37), pctr, atol=1e-6)
    raw = tensors.from_arrow(dataset.columns("test", list(bundle.contract.inputs)), bundle.contract)
    np.testing.assert_allclose(bundle.predict(raw)["pctr"], pctr, atol=1e-6)
    assert (pctr.dtype, pctr.shape) == (np.float32, (len(test_rows),))


def test_progress_counts_every_row(bundle, dataset, test_rows):
    class Counting:
        def __init__(self):
            self.total, self.seen, self.ended = None, 0, False

        def start(self, task, total, unit):
            self.total = total

        def advance(self, n=1, **figures):
            self.seen += n

        def finish(self):
            self.ended = True

    progress = Counting()
    bundles.score(bundle, dataset, "test", batch=100, progress=progress)
    assert progress.total == progress.seen == len(test_rows)
    assert progress.ended


def test_the_bundle_judged_again_is_what_it_carries(bundle, dataset, pctr, test_rows):
    again = bundles.evaluate_bundle(bundle, dataset, "test", resamples=40)
    kept = bundle.evaluation
    y = test_rows["label"]
    assert kept.auc.value == pytest.approx(roc_auc_score(y, pctr), abs=1e-5)
    rate = y.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert kept.normalized_entropy.value == pytest.approx(log_loss(y, pctr.astype(float)) / entropy, abs=1e-5)
    assert again.auc.value == pytest.approx(kept.auc.value, abs=1e-5)
    assert again.ceiling is not None
    assert again.ceiling.auc.value == pytest.approx(roc_auc_score(y, test_rows["truth"]), abs=1e-6)


def test_slices_are_the_fields_of_few_values(dataset, test_rows):
    found = slices(dataset, "test")
    assert set(found) == {"segment", "ad_id", "site", "logged_in", "position", "user_id in train"}
    assert (found["position"] == test_rows["position"].astype(str)).all()
    missing = np.array([value is None for value in found["site"]])
    assert (missing == test_rows["site"].isna()).all()
    assert missing.any()


def test_groups_are_requests_and_the_user_field_of_most_values(dataset, test_rows):
    found = groups(dataset, "test")
    assert set(found) == {"request", "user"}
    for kind, column in (("request", "request_id"), ("user", "user_id")):
        pairs = pd.DataFrame({"ours": found[kind], "theirs": test_rows[column]}).drop_duplicates()
        assert len(pairs) == test_rows[column].nunique() == len(set(found[kind]))


def test_the_reference_is_a_sample_of_the_calibration_rows_with_their_predictions(bundle, dataset):
    table = bundle.reference().to_pandas()
    rows = dataset.columns("calibration", list(dataset.contract.columns)).to_pandas()
    assert list(table.columns) == [*dataset.contract.columns, "pctr"]
    assert len(table) == len(rows)
    assert (table["shown_at"].to_numpy() == rows["shown_at"].to_numpy()).all()
    np.testing.assert_allclose(table["pctr"], bundles.score(bundle, dataset, "calibration"), atol=1e-6)


def test_a_smaller_reference_is_drawn_once_per_row_and_by_seed(dataset):
    whole = dataset.columns("calibration", ["request_id", "user_id", "shown_at", "ad_id"]).to_pandas()
    once = reference.sample(dataset, seed=3, rows=50).to_pandas()
    again = reference.sample(dataset, seed=3, rows=50).to_pandas()
    other = reference.sample(dataset, seed=4, rows=50).to_pandas()
    assert len(once) == 50
    assert (once["shown_at"].to_numpy() == again["shown_at"].to_numpy()).all()
    assert not (once["user_id"].to_numpy() == other["user_id"].to_numpy()).all()
    assert once["shown_at"].is_monotonic_increasing
    assert len(once.merge(whole, on=list(whole.columns))) == 50


def test_a_bundle_tells_what_it_is_from_its_files(bundle):
    loaded = bundles.load(bundle.path)
    assert loaded.name == "toy-market"
    assert loaded.digest == json.loads((bundle.path / "manifest.json").read_text())["digest"]
    assert loaded.calibration == bundle.calibration
    assert loaded.calibration.negatives_kept == 0.5
    assert loaded.evaluation == bundle.evaluation
    assert "toy-market" in loaded.contract.name
    assert "dcn_v2" in repr(loaded)


def test_a_flipped_byte_of_the_graph_is_found_at_load(copy_of):
    path = copy_of / "model/1/saved_model.pb"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"model/1/saved_model\.pb: altered"):
        bundles.load(copy_of)
    assert bundles.load(copy_of, verify=False).name == "toy-market"


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path):
    with pytest.raises(BundleError, match="holds no bundle"):
        bundles.load(tmp_path)


def test_calibration_by_hand_of_a_method_asked_for(trained, dataset):
    calibration, selection = bundles.calibrate(trained, dataset, method="none")
    assert calibration == Calibration(negatives_kept=0.5, positive_weight=3.0)
    assert selection.calibrator.kind == "none"
    automatic, _ = bundles.calibrate(trained, dataset)
    assert automatic.calibrator.kind in ("none", "platt", "isotonic")


def test_the_report_walks_from_the_raw_score_to_what_is_served(bundle, trained, dataset, pctr, test_rows):
    report = bundle.calibration_report
    raw, prior, served = report.steps
    assert [s.title for s in report.steps] == ["raw score", "prior corrected", "calibrated"]
    assert (report.method, report.requested) == ("platt", "platt")
    logit = trained.raw_logits_of(dataset, "test").astype(float)
    assert raw.mean == pytest.approx((1 / (1 + np.exp(-logit))).mean(), abs=1e-9)
    assert prior.mean == pytest.approx((1 / (1 + np.exp(-(logit + np.log(0.5 / 3))))).mean(), abs=1e-9)
    assert served.mean == pytest.approx(pctr.mean(), abs=1e-6)
    assert raw.calibration_ratio == pytest.approx(raw.mean / test_rows["label"].mean(), rel=1e-9)
    assert abs(prior.calibration_ratio - 1) < abs(raw.calibration_ratio - 1)


def test_an_unknown_method_is_refused(trained, dataset):
    with pytest.raises(UsageError, match="methods must be some of none, platt, isotonic"):
        candidate.calibrate(trained, dataset, method="beta")


def test_rows_without_an_id_belong_to_no_group(dataset):
    class WithoutSomeIds:
        contract = dataset.contract

        def columns(self, split, names):
            table = dataset.columns(split, names)
            gaps = pa.array([i % 7 == 0 for i in range(len(table))])
            for i, name in enumerate(names):
                if name in ("request_id", "user_id"):
                    table = table.set_column(i, name, pc.if_else(gaps, None, table[name]))
            return table

    for ids in groups(WithoutSomeIds(), "test").values():
        assert (np.isnan(ids) == (np.arange(len(ids)) % 7 == 0)).all()


def test_the_non_clicks_of_a_sampled_split_stand_for_those_left_out(dataset):
    info = dataset.meta.splits["test"].model_copy(update={"negatives_kept": 0.25})
    meta = dataset.meta.model_copy(update={"splits": {**dataset.meta.splits, "test": info}})
    sampled = replace(dataset, meta=meta)
    y = dataset.columns("test", [dataset.label])[dataset.label].to_numpy().astype(int)
    assert weights(sampled, "test").tolist() == [1.0 if click else 4.0 for click in y]
    # a constant at the click rate of the whole, which holds four times the non-clicks, is calibrated and says nothing
    whole_rate = y.sum() / (y.sum() + 4 * (1 - y).sum())
    found = evaluate_predictions(np.full(len(y), whole_rate), sampled, "test", resamples=20)
    assert found.calibration_ratio.value == pytest.approx(1.0)
    assert found.normalized_entropy.value == pytest.approx(1.0)


def test_a_market_without_its_truth_log_has_no_ceiling_and_half_a_truth_log_is_refused(dataset, monkeypatch):
    name = dataset.contract.of_role(Role.TRUTH)
    assert name, "the fixture's market knows its truth"
    whole = dataset.columns("test", [name])[name].to_numpy(zero_copy_only=False)

    def with_truth(values):
        column = pa.chunked_array([pa.array(values, pa.float32(), from_pandas=True)])
        monkeypatch.setattr(type(dataset), "columns", lambda self, split, names: pa.table({name: column}))
        return truths(dataset, "test")

    assert with_truth(np.full(len(whole), np.nan)) is None
    np.testing.assert_allclose(with_truth(whole), whole, rtol=1e-6)
    with pytest.raises(
        DataError, match=rf"split test: 1 of {len(whole):,} rows have no `{name}`; give the whole truth log"
    ):
        with_truth(np.where(np.arange(len(whole)) == 3, np.nan, whole))
