"""The experiment step answers as the library does, from a file or a text."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from kfp import dsl

from clickmill.errors import DataError, UsageError
from clickmill.experiment.findings import Analysis
from clickmill.experiment.spec import dumps
from components.experiment import experiment
from components.step import RECORD_VARIABLE, read_records
from tests.clickmill.experiment import drawn
from tests.monitoring.experiments import arms_log


def run(folder: Path, **given: Any) -> tuple[str, dict[str, Any]]:
    outputs = {
        "analysis": dsl.Artifact(name="analysis", uri=str(folder / "analysis.json")),
        "metrics": dsl.Metrics(name="metrics", uri=str(folder / "metrics.json")),
        "page": dsl.HTML(name="page", uri=str(folder / "page.html")),
    }
    answer = experiment.python_func(**({"clicks": [], "attribution_seconds": 1800.0} | given), **outputs)
    return answer, outputs


def test_it_answers_and_leaves_figures_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RECORD_VARIABLE, str(tmp_path / "record.jsonl"))
    pq.write_table(drawn.impressions(2, 3_000, lift=0.4), tmp_path / "log.parquet")
    answer, outputs = run(tmp_path, spec=dumps(drawn.spec()), log=[str(tmp_path / "log.parquet")])
    assert answer == "PASS"
    found = Analysis.model_validate_json((tmp_path / "analysis.json").read_text())
    assert outputs["metrics"].metadata["ctr_b_low"] == pytest.approx(found.effect("ctr", "b").low)  # type: ignore[union-attr]
    assert json.loads((tmp_path / "metrics.json").read_text())["headline"] == "Yes: b is better than a."
    assert "Yes: b is better than a." in (tmp_path / "page.html").read_text()
    (record,) = read_records(tmp_path / "record.jsonl")
    assert record.notes == ("Yes: b is better than a.",)


def test_it_joins_a_prediction_log_with_its_clicks(tmp_path: Path) -> None:
    watched = arms_log.write(tmp_path)
    (tmp_path / "spec.yaml").write_text(dumps(watched.spec))
    answer, _ = run(
        tmp_path,
        spec=str(tmp_path / "spec.yaml"),
        log=[str(watched.predictions)],
        clicks=[str(watched.clicks)],
    )
    assert answer == "UNKNOWN"


def test_it_fails_in_the_words_of_the_library(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spec: empty"):
        run(tmp_path, spec=" ", log=[])
    pq.write_table(drawn.impressions(2, 50), tmp_path / "log.parquet")
    text = dumps(drawn.spec(arms={"a": {}, "b": {}, "c": {}}))
    with pytest.raises(DataError, match="nobody is in arm 'c'"):
        run(tmp_path, spec=text, log=[str(tmp_path / "log.parquet")])
