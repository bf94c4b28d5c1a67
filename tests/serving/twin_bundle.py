"""A small real bundle with an ONNX twin: a logistic regression of drawn weights over the contract of the serving tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from clickmill import contract as contracts
from clickmill.bundle import golden, priors
from clickmill.contract import FeatureContract
from tests.serving.small_bundle import ADS, CONTRACT, PRIORS, complete, raw_rows


def write_twin_bundle(folder: Path, *, bias: float = 0.0, contract: FeatureContract = CONTRACT) -> Path:
    """Write a bundle. `bias` shifts all its logits. contract: `CONTRACT`, or one with the same inputs."""
    from clickmill.bundle.export import export
    from clickmill.bundle.graph import ClickGraph
    from clickmill.bundle.stored_rows import served
    from clickmill.bundle.twin_export import write_twin
    from clickmill.calibration import Calibration
    from clickmill.features import Encoder, FeatureSpace, Moments
    from clickmill.models import build
    from clickmill.training import TrainedModel

    known = {"ad_id": list(ADS), "device": ["phone", "desk"], "returning": ["true"]}
    vocabularies = {name: pa.array(values) for name, values in known.items()}
    space = FeatureSpace(contract, vocabularies, moments={"price": Moments(1.0, 0.5)}, positions=20)
    model = build("lr", space)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(bias, 0.3, variable.shape))
    trained = served(TrainedModel(space, "lr", model, Encoder(space), {"model_config": {}}))
    export(trained, Calibration(), folder / "model" / "1")
    graph = ClickGraph(folder / "model" / "1")
    (folder / "contract.yaml").write_text(contracts.dumps(contract))
    golden.write(folder, raw_rows(16), ["real"] * 16, contract, graph)
    assert write_twin(trained, Calibration(), folder, "model/1", graph) is None
    priors.write(folder, PRIORS)
    complete(folder, contract)
    return folder
