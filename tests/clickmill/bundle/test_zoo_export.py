"""Every model of the registry leaves as one graph and answers as it did before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clickmill import features
from clickmill.bundle import requests
from clickmill.bundle.export import export
from clickmill.bundle.graph import ClickGraph
from clickmill.bundle.stored_rows import RowFormat, served
from clickmill.calibration import Calibration
from clickmill.data import PreparedDataset
from clickmill.models import MODELS, build
from clickmill.training import TrainedModel


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
    export(as_served, Calibration(negatives_kept=1.0), tmp_path)
    table = next(iter(dataset.scan("test"))).slice(0, 50)
    raw = features.tensors.from_arrow(table, space.contract)
    logit = ClickGraph(tmp_path)(raw)["logit"]
    assert len(np.unique(logit)) > 40
    np.testing.assert_allclose(logit, trained.raw_logits(raw), rtol=1e-5, atol=1e-5)
    graph = ClickGraph(tmp_path)
    requests.check(tmp_path, raw, space.contract, graph, graph.rank, tolerance=1e-5)
