"""Every model of the registry leaves as one graph and answers as it did before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clickmill import features
from clickmill.bundle import requests
from clickmill.bundle.export import export
from clickmill.bundle.graph import ClickGraph
from clickmill.calibration import Calibration
from clickmill.data import PreparedDataset
from clickmill.models import MODELS, build
from clickmill.training import TrainedModel


@pytest.fixture(scope="module")
def space(dataset: PreparedDataset) -> features.FeatureSpace:
    return features.fit(dataset)


@pytest.mark.parametrize(
    ("name", "position"),
    [*((name, "additive") for name in MODELS), ("lr", "examination"), ("dcn_v2", "examination")],
)
def test_every_model_exports_and_gives_the_same_logits(
    name: str, position: str, dataset: PreparedDataset, space: features.FeatureSpace, tmp_path: Path
) -> None:
    model = build(name, space, {"position": position})
    if position == "examination":
        model.get_layer("examination").prior.assign(2.0)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    trained = TrainedModel(space, name, model, features.Encoder(space), {})
    export(trained, Calibration(negatives_kept=1.0), tmp_path)
    table = next(iter(dataset.scan("test"))).slice(0, 50)
    raw = features.tensors.from_arrow(table, space.contract)
    logit = ClickGraph(tmp_path)(raw)["logit"]
    assert len(np.unique(logit)) > 40
    np.testing.assert_allclose(logit, trained.raw_logits(raw), rtol=1e-5, atol=1e-5)
    graph = ClickGraph(tmp_path)
    requests.check(tmp_path, raw, space.contract, graph, graph.rank, tolerance=1e-5)
