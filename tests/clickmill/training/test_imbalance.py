"""Few clicks: what weights and sampling do to the odds is undone in closed form, on a market whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from clickmill.calibration import Calibration
from clickmill.contract import load
from clickmill.data import PreparedDataset, PrepareOptions, prepare
from clickmill.data.world import WorldConfig, write
from clickmill.evaluation import calibration_ratio, expected_calibration_error
from clickmill.features import fit
from clickmill.training import TrainingConfig, train

CONTRACT = Path(__file__).parents[3] / "contracts" / "world.yaml"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imbalance") / "world"
    write(WorldConfig(impressions=40_000, n_users=1_000, n_ads=200, n_advertisers=30), root)
    return root


def _prepared(logs: Path, kept: float) -> PreparedDataset:
    out = logs.parent / f"kept-{kept}"
    if not out.exists():
        prepare(
            [logs / "impressions"], load(CONTRACT), out,
            clicks=[logs / "clicks"], truth=[logs / "truth"], options=PrepareOptions(negatives_kept=kept),
        )  # fmt: skip
    return PreparedDataset.open(out)


@pytest.mark.parametrize(
    ("weight", "kept", "position"),
    [(50.0, 1.0, "additive"), (1.0, 0.05, "additive"), (10.0, 0.2, "examination")],
)
def test_the_closed_form_alone_brings_the_predictions_back_to_the_click_rate(
    weight: float, kept: float, position: str, logs: Path, tmp_path: Path
) -> None:
    dataset = _prepared(logs, kept)
    config = TrainingConfig(epochs=3, batch_size=512, positive_weight=weight)
    model = train(
        dataset, fit(dataset), "lr", model_config={"position": position}, config=config, out=tmp_path / "out"
    )
    assert (model.meta["positive_weight"], model.meta["negatives_kept"]) == (weight, kept)
    table = dataset.columns("test", [dataset.label])
    y = table[dataset.label].to_numpy()
    assert 0.02 < y.mean() < 0.06  # the test split is not sampled
    raw = model.raw_logits_of(dataset, "test")
    corrected = Calibration(negatives_kept=kept, positive_weight=weight).pctr(raw)
    ece = expected_calibration_error(y, corrected)
    assert ece < 0.02
    # At a click rate of 4 % a small ECE alone could be had by any small numbers.
    assert 0.75 < calibration_ratio(y, corrected) < 1.33
    uncorrected = expected_calibration_error(y, Calibration().pctr(raw))
    assert uncorrected > 0.25
    assert uncorrected > 12 * ece
