"""The ONNX twin of a whole bundle: its answers, its refusals, and what is told where there is none."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from clickmill import bundle as bundles
from clickmill.bundle import Bundle, golden, requests, twin, twin_export
from clickmill.bundle.twin import Twin
from clickmill.errors import BundleCorrupt, BundleError, RequestError


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> dict[str, np.ndarray]:
    return golden.read(bundle.path, bundle.contract)


@pytest.fixture(scope="module")
def of_bundle(bundle: Bundle) -> Bundle:
    return bundles.load(bundle.path, engine="twin")


def test_a_bundle_has_a_twin_whose_files_the_manifest_seals(bundle: Bundle) -> None:
    assert {"twin.onnx", "twin_ranking.onnx", "twin/keys.npy", "twin/places.npy", "twin/space.json"} <= set(
        bundle.manifest.files
    )
    assert bundle.manifest.export is not None
    assert bundle.manifest.export.no_twin is None


def test_the_twin_gives_the_golden_predictions(of_bundle: Bundle, rows: dict[str, np.ndarray]) -> None:
    assert of_bundle.engine == "twin"
    assert of_bundle.check_golden() == len(pq.read_table(of_bundle.path / golden.GOLDEN))
    table = pq.read_table(of_bundle.path / golden.GOLDEN)
    got = of_bundle.predict(rows)
    np.testing.assert_allclose(got["pctr"], table["pctr"].to_numpy(), rtol=0, atol=1e-6)


def test_the_twin_ranks_as_the_saved_model_does(
    bundle: Bundle, of_bundle: Bundle, rows: dict[str, np.ndarray]
) -> None:
    asked = requests.one_request(rows, bundle.contract, user=3)
    np.testing.assert_allclose(of_bundle.rank(asked)["pctr"], bundle.rank(asked)["pctr"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: {k: v for k, v in raw.items() if k != "ad_id"}, "field `ad_id` is missing"),
        (lambda raw: {**raw, "ad_id": raw["ad_id"][:1]}, "do not fit together"),
        (lambda raw: {**raw, "ad_id": raw["ad_id"].astype(np.float32)}, "wrong type or shape: field `ad_id`"),
        (lambda raw: {**raw, "price": raw["price"][:, None]}, "wrong type or shape: field `price`"),
        (lambda raw: {**raw, "topics": raw["topics"][:, 0]}, "wrong type or shape: field `topics`"),
        (lambda raw: {**raw, "age": 3}, "wrong type or shape"),
    ],
)
def test_what_is_no_request_is_refused(of_bundle: Bundle, rows, change, words) -> None:
    with pytest.raises(RequestError, match=words):
        of_bundle.predict(change(rows))


def test_a_shared_field_of_two_rows_is_refused(of_bundle: Bundle, rows: dict[str, np.ndarray]) -> None:
    asked = requests.one_request(rows, of_bundle.contract)
    with pytest.raises(RequestError, match="field `user_id` has 2, not 1"):
        of_bundle.rank({**asked, "user_id": rows["user_id"][:2]})


def test_tensorflow_is_not_imported(bundle: Bundle) -> None:
    code = (
        "import sys\nfrom clickmill import bundle as bundles\n"
        f"loaded = bundles.load({str(bundle.path)!r}, engine='twin')\n"
        "loaded.check_golden()\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_that_cannot_be_converted_leaves_a_bundle_that_says_so(
    bundle: Bundle, copy_of: Path, trained, monkeypatch, caplog
) -> None:
    def broken(*args: object) -> object:
        raise BundleError("tf2onnx cannot convert the model: ValueError: Frobnicate")

    monkeypatch.setattr(twin_export, "_converted", broken)
    from clickmill.bundle.stored_rows import served

    with caplog.at_level(logging.WARNING):
        reason = twin_export.write_twin(served(trained), bundle.calibration, copy_of, "model/1", bundle.graph)
    assert "Frobnicate" in str(reason)
    assert "Frobnicate" in caplog.text
    assert not twin.present(copy_of)
    assert list(copy_of.glob("twin*")) == []


def test_a_twin_that_answers_otherwise_is_left_out(
    bundle: Bundle, copy_of: Path, trained, monkeypatch
) -> None:
    from clickmill.bundle.stored_rows import served
    from clickmill.calibration import Calibration

    reason = twin_export.write_twin(
        served(trained), Calibration(negatives_kept=0.9), copy_of, "model/1", bundle.graph
    )
    assert "golden predictions moved" in str(reason)
    assert list(copy_of.glob("twin*")) == []


def test_a_bundle_without_a_twin_is_run_by_its_saved_model(make_folder) -> None:
    old = bundles.load(make_folder(), engine="twin")
    assert old.engine == "savedmodel"
    with pytest.raises(BundleError, match="has no ONNX twin: it was written before"):
        _ = old.twin


def test_a_twin_cut_short_is_a_corrupt_bundle(copy_of: Path) -> None:
    whole = (copy_of / "twin.onnx").read_bytes()
    (copy_of / "twin.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleCorrupt, match=r"twin\.onnx: ONNX Runtime cannot load it"):
        Twin(copy_of)
    (copy_of / "twin" / "space.json").write_text("{}")
    with pytest.raises(BundleCorrupt, match="holds no encoder of the twin"):
        Twin(copy_of)
