"""The steps one after another on a small market, as plain functions: each does its part on what the one before it wrote."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from clickmill import bundle as bundles
from clickmill.bundle.store import Store
from clickmill.data import PreparedDataset, world
from clickmill.errors import ContractError, QuarantineOverflow, UsageError
from clickmill.features import FeatureSpace
from clickmill.training import TrainedModel
from components.calibrate import calibrate
from components.deploy import deploy
from components.preprocess import preprocess
from components.report import report
from components.step import RECORD_VARIABLE, read_records
from components.train import train
from components.train.champion import Champion, champion_of
from components.validate_data import validate_data
from components.validate_model import validate_model

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
GATE = {"min_clicks": 20, "max_ece": 0.2, "max_calibration_bias": None, "resamples": 50, "max_ne": 1.2}
IMPRESSIONS = 12_000


@dataclass
class Artifacts:
    """Makes kfp artifacts under one folder."""

    root: Path

    def __call__(self, kind: type[Any], name: str) -> Any:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return kind(name=name, uri=str(path))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("market") / "world"
    world.write(world.WorldConfig(impressions=IMPRESSIONS, seed=7), root)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


def check(market: Path, make: Callable[..., Any], **changed: Any) -> dict[str, Any]:
    outputs = {
        "validated": make(dsl.Dataset, "validated"),
        "quarantine": make(dsl.Dataset, "quarantine"),
        "report": make(dsl.HTML, "quality.html"),
        "metrics": make(dsl.Metrics, "quality.json"),
    }
    given = {
        "contract": str(CONTRACT),
        "impressions": [str(market / "impressions")],
        "clicks": [str(market / "clicks")],
        "truth": [str(market / "truth")],
        "test": [],
        "max_quarantine_share": 0.01,
        "inputs_digest": "",
        **changed,
    }
    validate_data.python_func(**given, **outputs)
    return outputs


@pytest.fixture(scope="module")
def validated(market: Path, made: Artifacts) -> dict[str, Any]:
    return check(market, made)


@pytest.fixture(scope="module")
def prepared(validated: dict[str, Any], made: Artifacts) -> dict[str, Any]:
    outputs = {
        "dataset": made(dsl.Dataset, "dataset"),
        "metrics": made(dsl.Metrics, "prepared.json"),
        "summary": made(dsl.Markdown, "prepared.md"),
    }
    preprocess.python_func(validated["validated"], {"window": "6h"}, 0.5, 3, **outputs)
    return outputs


@pytest.fixture(scope="module")
def trained(prepared: dict[str, Any], made: Artifacts) -> dict[str, Any]:
    outputs = {
        "trained": made(dsl.Model, "trained"),
        "metrics": made(dsl.Metrics, "trained.json"),
        "history": made(dsl.Markdown, "trained.md"),
    }
    settings = {
        "epochs": 2.0,
        "batch_size": 1024.0,
    }  # kfp hands every number of a JSON parameter over as a float
    train.python_func(
        prepared["dataset"], "lr", {}, {}, settings, 2.0, 5, "", str(made.root / "work"), **outputs
    )
    return outputs


@pytest.fixture(scope="module")
def calibrated(prepared: dict[str, Any], trained: dict[str, Any], made: Artifacts) -> dict[str, Any]:
    outputs = {
        "bundle": made(dsl.Model, "bundle"),
        "metrics": made(dsl.Metrics, "bundle.json"),
        "card": made(dsl.HTML, "card.html"),
    }
    calibrate.python_func(prepared["dataset"], trained["trained"], "", {}, 0, **outputs)
    return outputs


def judge(
    prepared: dict[str, Any], items: list[Any], make: Callable[..., Any], store: str, **gate: Any
) -> dict[str, Any]:
    outputs = {
        "best": make(dsl.Model, "best"),
        "metrics": make(dsl.Metrics, "gate.json"),
        "classification": make(dsl.ClassificationMetrics, "roc"),
        "card": make(dsl.HTML, "best.html"),
        "reasons": make(dsl.Markdown, "reasons.md"),
    }
    decision = validate_model.python_func(prepared["dataset"], items, store, {**GATE, **gate}, 0, **outputs)
    return {"decision": decision, **outputs}


def test_the_check_lets_good_rows_through_and_says_so(validated: dict[str, Any]) -> None:
    rows = pq.ParquetFile(Path(validated["validated"].path) / "rows.parquet").metadata.num_rows
    assert validated["metrics"].metadata == {"rows": IMPRESSIONS, "quarantined": 0, "quarantined_share": 0}
    assert rows == IMPRESSIONS
    assert f"All {IMPRESSIONS:,} rows keep the contract." in Path(validated["report"].path).read_text()


def test_bad_rows_are_set_aside_with_their_reason_and_the_rest_goes_on(market: Path, tmp_path: Path) -> None:
    table = pq.read_table(market / "impressions")
    ages = table["age_bucket"].to_pylist()
    ages[5], ages[7] = "200-300", "unborn"
    at = table.schema.get_field_index("age_bucket")
    pq.write_table(table.set_column(at, "age_bucket", [ages]), tmp_path / "bad.parquet")
    outputs = check(market, Artifacts(tmp_path), impressions=[str(tmp_path / "bad.parquet")])
    bad = pq.read_table(Path(outputs["quarantine"].path) / "rows.parquet")
    assert bad["age_bucket"].to_pylist() == ["200-300", "unborn"]
    assert bad["__field__"].to_pylist() == ["age_bucket", "age_bucket"]
    assert outputs["metrics"].metadata["quarantined"] == 2
    page = Path(outputs["report"].path).read_text()
    assert "200-300" in page
    assert "age_bucket" in page


def test_too_many_bad_rows_stop_the_run_but_the_page_is_there(market: Path, tmp_path: Path) -> None:
    table = pq.read_table(market / "impressions")
    at = table.schema.get_field_index("age_bucket")
    pq.write_table(table.set_column(at, "age_bucket", [["?"] * len(table)]), tmp_path / "bad.parquet")
    with pytest.raises(QuarantineOverflow, match=r"100\.00% of the rows"):
        check(market, Artifacts(tmp_path), impressions=[str(tmp_path / "bad.parquet")])
    assert "were set aside" in (tmp_path / "quality.html").read_text()
    assert not (tmp_path / "validated").exists()


def test_the_contract_may_come_as_text(market: Path, tmp_path: Path) -> None:
    outputs = check(market, Artifacts(tmp_path), contract=CONTRACT.read_text())
    assert outputs["metrics"].metadata["rows"] == IMPRESSIONS
    with pytest.raises(ContractError, match=r"contract \(parameter of the run\)"):
        check(market, Artifacts(tmp_path / "again"), contract="name: x\nfields: 3\n")


def test_preparation_joins_samples_train_only_and_learns_the_space(prepared: dict[str, Any]) -> None:
    dataset = PreparedDataset.open(prepared["dataset"].path)
    splits = dataset.meta.splits
    assert set(splits) == {"train", "validation", "calibration", "test"}
    assert dataset.negatives_kept == 0.5
    assert dataset.meta.join is not None
    assert dataset.meta.join.window_s == 6 * 3600
    # half of the non-clicks are gone from train, none from test, so the click rate of train is about twice as high
    rate = {name: split.clicks / split.rows for name, split in splits.items()}
    assert 1.5 < rate["train"] / rate["test"] < 2.6
    assert (
        splits["train"].end
        <= splits["validation"].start
        <= splits["calibration"].start
        <= splits["test"].start
    )
    space = FeatureSpace.load(Path(prepared["dataset"].path) / "space")
    assert space.contract.digest == dataset.contract.digest
    assert prepared["metrics"].metadata["test_rows"] == splits["test"].rows
    assert "| train |" in Path(prepared["summary"].path).read_text()


def test_a_wrong_setting_is_named_with_those_there_are(validated: dict[str, Any], tmp_path: Path) -> None:
    make = Artifacts(tmp_path)
    outputs = {
        "dataset": make(dsl.Dataset, "d"),
        "metrics": make(dsl.Metrics, "m"),
        "summary": make(dsl.Markdown, "s"),
    }
    with pytest.raises(UsageError, match=r"preparation.windw: Extra inputs .* got '6h'"):
        preprocess.python_func(validated["validated"], {"windw": "6h"}, 1.0, 0, **outputs)
    with pytest.raises(UsageError, match="'6 parsecs' is not a duration"):
        preprocess.python_func(validated["validated"], {"window": "6 parsecs"}, 1.0, 0, **outputs)
    with pytest.raises(UsageError, match="seed is a parameter of the pipeline itself"):
        preprocess.python_func(validated["validated"], {"seed": 1}, 1.0, 0, **outputs)


def test_training_moves_the_finished_model_out_of_the_work_folder(
    trained: dict[str, Any], made: Artifacts
) -> None:
    model = TrainedModel.load(Path(trained["trained"].path))
    assert model.name == "lr"
    assert model.meta["positive_weight"] == 2.0
    assert model.meta["training_config"]["seed"] == 5
    assert trained["trained"].metadata == {"model": "lr"}
    assert list((made.root / "work").iterdir()) == []
    best = min(record["ne"] for record in model.meta["history"])
    assert trained["metrics"].metadata["validation_normalized_entropy"] == best


def test_a_warm_start_begins_with_the_store_s_champion_and_says_so(
    prepared: dict[str, Any], calibrated: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path / "store").add(Path(calibrated["bundle"].path))
    make = Artifacts(tmp_path)
    outputs = {
        "trained": make(dsl.Model, "warm"),
        "metrics": make(dsl.Metrics, "warm.json"),
        "history": make(dsl.Markdown, "warm.md"),
    }
    still = {"epochs": 1.0, "learning_rate": 1e-12, "embedding_learning_rate": 1e-12}
    train.python_func(
        prepared["dataset"], "lr", {}, {}, still, 2.0, 5, str(tmp_path / "store"), "", **outputs
    )
    warm = TrainedModel.load(Path(outputs["trained"].path))
    champion = bundles.load(calibrated["bundle"].path)
    assert warm.meta["started_from"] == champion.manifest.lineage.training
    begun = zip(warm.keras_model.weights, champion.trained().keras_model.weights, strict=True)
    assert all(np.allclose(ours, theirs, atol=1e-6) for ours, theirs in begun), "with steps of no length"
    assert (
        f"train lr: warm start from {tmp_path}/store/1, digest {champion.digest[:12]}"
        in capsys.readouterr().out
    )


def test_who_is_not_the_champion_starts_from_scratch(calibrated: dict[str, Any], tmp_path: Path) -> None:
    assert champion_of("", "lr") == Champion(None, "")
    assert "holds no champion yet; lr starts from scratch" in champion_of(str(tmp_path / "none"), "lr").note
    other = champion_of(calibrated["bundle"].path, "dcn_v2")
    assert (other.trained, other.note) == (
        None,
        "warm start: the champion is a lr; dcn_v2 starts from scratch",
    )


def test_the_bundle_verifies_and_its_figures_are_shown(calibrated: dict[str, Any]) -> None:
    bundle = bundles.load(calibrated["bundle"].path)
    assert bundle.check_golden() > 0
    assert bundle.manifest.model.name == "lr"
    assert bundle.calibration.positive_weight == 2.0
    assert bundle.calibration.negatives_kept == 0.5
    written = json.loads(Path(calibrated["metrics"].path).read_text())["metrics"]
    assert written["auc"] == bundle.evaluation.auc.value
    assert calibrated["metrics"].metadata == written
    assert calibrated["bundle"].metadata["held_out_ne"] == written["held_out_normalized_entropy"]


def test_without_a_champion_the_floors_decide_and_the_store_gets_version_1(
    prepared: dict[str, Any], calibrated: dict[str, Any], tmp_path: Path
) -> None:
    make, store = Artifacts(tmp_path), tmp_path / "store"
    judged = judge(prepared, [calibrated["bundle"]], make, str(store))
    assert judged["decision"] == "promote"
    assert bundles.load(judged["best"].path).digest == calibrated["bundle"].metadata["digest"]
    metrics = judged["classification"].metadata
    rows = [row["row"] for row in metrics["confusionMatrix"]["rows"]]
    test = PreparedDataset.open(prepared["dataset"].path).meta.splits["test"]
    assert sum(rows[1]) == test.clicks
    assert sum(rows[0]) == test.rows - test.clicks
    curve = metrics["confidenceMetrics"]
    assert (curve[0]["recall"], curve[-1]["recall"]) == (0.0, 1.0)
    summary = make(dsl.Markdown, "deployed.md")
    assert deploy.python_func(judged["best"], str(store), {}, summary) == 1
    assert Store(store).versions() == [1]
    assert "version 1" in Path(summary.path).read_text()
    # the same bundle once more is no new version
    assert deploy.python_func(judged["best"], str(store), {}, summary) == 1


def test_the_champion_is_compared_on_the_same_rows_and_an_equal_is_no_improvement(
    prepared: dict[str, Any], calibrated: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    Store(store).add(Path(calibrated["bundle"].path))
    judged = judge(
        prepared,
        [calibrated["bundle"]],
        Artifacts(tmp_path),
        str(store),
        require_improvement=True,
        max_p99_ratio=None,
    )
    assert judged["decision"] == "keep"
    gate = json.loads(Path(judged["metrics"].path).read_text())["gate"]
    change = {check["name"]: check for check in gate["checks"]}
    assert change["ne"]["value"] == pytest.approx(0, abs=1e-6)
    assert change["improvement"]["verdict"] != "PASS"
    assert "against version 1" in Path(judged["reasons"].path).read_text()


def test_the_best_is_picked_by_the_held_out_entropy_and_not_by_the_order(
    prepared: dict[str, Any], calibrated: dict[str, Any], tmp_path: Path
) -> None:
    bundle = calibrated["bundle"]
    worse = dsl.Model(uri=bundle.uri, metadata={**bundle.metadata, "model": "worse", "held_out_ne": 9.0})
    better = dsl.Model(uri=bundle.uri, metadata={**bundle.metadata, "model": "better", "held_out_ne": 0.1})
    judged = judge(prepared, [worse, better], Artifacts(tmp_path), "")
    assert judged["best"].metadata["model"] == "better"
    reasons = Path(judged["reasons"].path).read_text()
    assert reasons.index("| better |") < reasons.index("| worse |")


def test_without_a_store_nothing_is_deployed_and_it_says_so(
    calibrated: dict[str, Any], tmp_path: Path
) -> None:
    summary = Artifacts(tmp_path)(dsl.Markdown, "deployed.md")
    assert deploy.python_func(calibrated["bundle"], "", {}, summary) == 0
    assert "no model store was given" in Path(summary.path).read_text()


def test_the_report_tells_the_failed_step_s_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: Path
) -> None:
    record = tmp_path / "steps.jsonl"
    monkeypatch.setenv(RECORD_VARIABLE, str(record))
    with pytest.raises(ContractError):
        check(market, Artifacts(tmp_path), contract="no/such/contract.yaml")
    assert [r.outcome for r in read_records(record)] == ["failed"]
    make = Artifacts(tmp_path)
    summary, page = make(dsl.Markdown, "run.md"), make(dsl.HTML, "run.html")
    status = dsl.PipelineTaskFinalStatus(
        "FAILED", "run-1", "exit-handler-1", 1, "Task exit-handler-1 failed."
    )
    report.python_func(status, ["lr"], "", summary, page)
    text = Path(summary.path).read_text()
    assert "The run failed in step validate_data." in text
    assert "no/such/contract.yaml: cannot be read" in text
    assert "cannot be read" in Path(page.path).read_text()


def test_the_report_names_the_champion_and_on_a_cluster_the_engine_s_words(
    calibrated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RECORD_VARIABLE, raising=False)
    Store(tmp_path / "store").add(Path(calibrated["bundle"].path))
    make = Artifacts(tmp_path)
    summary, page = make(dsl.Markdown, "run.md"), make(dsl.HTML, "run.html")
    status = dsl.PipelineTaskFinalStatus("FAILED", "run-1", "exit-handler-1", 1, "pod was evicted")
    report.python_func(status, ["lr"], str(tmp_path / "store"), summary, page)
    text = Path(summary.path).read_text()
    assert "pod was evicted" in text
    assert "version 1" in text
