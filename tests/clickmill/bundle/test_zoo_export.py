"""Every model of the registry leaves as one graph and answers as it did before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from clickmill import features
from clickmill.bundle import requests
from clickmill.bundle.export import export
from clickmill.bundle.graph import ClickGraph
from clickmill.bundle.stored_rows import RowFormat, ServedModel, served
from clickmill.bundle.twin import Twin
from clickmill.bundle.twin_export import export_twin
from clickmill.calibration import Calibration, Identity, Isotonic, Platt
from clickmill.data import PreparedDataset
from clickmill.models import MODELS, build
from clickmill.training import TrainedModel

CALIBRATIONS = {
    name: Calibration(
        negatives_kept=0.25,
        positive_weight=2.0,
        calibrator=(Identity(), Platt(slope=0.9, intercept=-0.1), Isotonic(x=(-3, -1, 2), y=(-4, -1, 1)))[
            i % 3
        ],
    )
    for i, name in enumerate(MODELS)
}


@pytest.fixture(scope="module")
def space(dataset: PreparedDataset) -> features.FeatureSpace:
    return features.fit(dataset)


@pytest.mark.parametrize(
    ("name", "position", "rows"),
    [
        *((name, "additive", "float32") for name in MODELS),
        ("lr", "examination", "float32"),
        ("dcn_v2", "examination", "float32"),
        ("wide_deep", "additive", "int8"),
        ("din", "additive", "int8"),
        ("lr", "additive", "bfloat16"),
    ],
)
def test_every_model_exports_and_gives_the_same_logits(
    name: str,
    position: str,
    rows: RowFormat,
    dataset: PreparedDataset,
    space: features.FeatureSpace,
    tmp_path: Path,
) -> None:
    model = build(name, space, {"position": position})
    if position == "examination":
        model.get_layer("examination").prior.assign(2.0)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    meta = {"model_config": {"position": position}}
    as_served = served(TrainedModel(space, name, model, features.Encoder(space), meta), rows)
    trained = as_served.trained
    calibration = CALIBRATIONS[name]
    saved = tmp_path / "bundle" / "model" / "1"
    saved.parent.mkdir(parents=True)
    export(as_served, calibration, saved)
    table = next(iter(dataset.scan("test"))).slice(0, 50)
    raw = features.tensors.from_arrow(table, space.contract)
    logit = ClickGraph(saved)(raw)["logit"]
    assert len(np.unique(logit)) > 40
    expected = calibration(trained.raw_logits(raw))
    np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)
    graph = ClickGraph(saved)
    requests.check(tmp_path, raw, space.contract, graph, graph.rank, tolerance=1e-5)
    twin = _twin_of(as_served, calibration, tmp_path)
    np.testing.assert_allclose(twin(raw)["logit"], logit, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(twin(raw)["pctr"], graph(raw)["pctr"], rtol=0, atol=1e-6)
    requests.check(tmp_path, raw, space.contract, graph, twin.rank, tolerance=1e-5)


def _twin_of(as_served: ServedModel, calibration: Calibration, folder: Path) -> Twin:
    """The twin, moved elsewhere: it must need nothing but the bundle's own files."""
    export_twin(as_served, calibration, folder / "bundle", "model/1")
    moved = (folder / "bundle").rename(folder / "moved")
    for path in moved.glob("twin*.onnx"):
        kept = onnx.load(path, load_external_data=False).graph.initializer
        places = {t.name: t.external_data[0].value for t in kept if t.name.startswith(("table_", "scale_"))}
        assert "table_0" in places
        assert set(places.values()) == {"model/1/variables/variables.data-00000-of-00001"}
    assert sorted(path.name for path in moved.glob("twin*")) == ["twin", "twin.onnx", "twin_ranking.onnx"]
    return Twin(moved)
