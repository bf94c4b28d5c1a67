"""What runs the graph: the twin without TensorFlow, the SavedModel, or the quicker of both; and what a bundle without a twin does."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickmill.bundle.requests import one_request
from clickmill.errors import GoldenMismatch
from serving.engines import BySize, load_verified, needs_tensorflow, quicker
from tests.serving.small_bundle import CONTRACT, complete, raw_rows
from tests.serving.twin_bundle import write_twin_bundle


@pytest.fixture(scope="module")
def with_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_twin_bundle(tmp_path_factory.mktemp("twin") / "bundle")


def test_both_engines_give_the_same_by_rows_and_by_request(with_twin: Path) -> None:
    twin, saved = load_verified(with_twin), load_verified(with_twin, "savedmodel")
    assert twin.engines == {"small": "twin", "large": "twin"}
    assert saved.engines == {"small": "savedmodel", "large": "savedmodel"}
    raw = raw_rows(300, seed=3)
    asked = one_request(raw, CONTRACT)
    for got, expected in (
        (twin.scorer.predict(raw), saved.scorer.predict(raw)),
        (twin.scorer.rank(asked), saved.scorer.rank(asked)),
    ):
        assert len(np.unique(expected["pctr"])) > 50
        np.testing.assert_allclose(got["pctr"], expected["pctr"], rtol=0, atol=1e-6)


def test_the_twin_serves_without_tensorflow(with_twin: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from serving import server, tf_protocol
from serving.engines import loader
from serving.watcher import warm
loaded = loader("twin")(Path({str(with_twin)!r}))
warm(loaded)
assert loaded.engines["small"] == "twin"
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not needs_tensorflow(with_twin, "twin")
    assert needs_tensorflow(with_twin, "auto")


def test_auto_takes_one_of_both_for_each_size_and_says_which(with_twin: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_verified(with_twin, "auto")
    assert set(loaded.engines) == {"small", "large"}
    assert set(loaded.engines.values()) <= {"twin", "savedmodel"}
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("engine for")]
    assert [text.split(" requests")[0] for text in told] == ["engine for small", "engine for large"]
    np.testing.assert_allclose(
        loaded.scorer.predict(raw_rows(40))["pctr"],
        load_verified(with_twin).scorer.predict(raw_rows(40))["pctr"],
        rtol=0, atol=1e-6,
    )  # fmt: skip


def test_a_bundle_without_a_twin_is_run_by_tensorflow_and_that_is_logged(small_bundle: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_verified(small_bundle)
    assert loaded.engines == {"small": "savedmodel", "large": "savedmodel"}
    assert "TensorFlow serves it, the bundle has no twin: it was written without one" in caplog.text
    assert needs_tensorflow(small_bundle, "twin")


def test_a_twin_of_other_weights_is_refused_at_load(with_twin: Path, tmp_path: Path) -> None:
    other = write_twin_bundle(tmp_path / "other", bias=0.4)
    mixed = Path(shutil.copytree(with_twin, tmp_path / "mixed"))
    for name in ("twin.onnx", "twin_ranking.onnx", "model"):
        source, place = other / name, mixed / name
        if source.is_dir():
            shutil.rmtree(place)
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)
    complete(mixed, CONTRACT)
    with pytest.raises(GoldenMismatch, match="golden predictions moved"):
        load_verified(mixed)


@dataclass
class Slowly:
    """A bundle whose runs take as long as it is told, by rows."""

    engine: str
    seconds: dict[int, float]
    contract: Any = CONTRACT
    digest: str = "0" * 64
    ranks: bool = True
    asked: list[int] = field(default_factory=list)

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import time

        n = max(map(len, raw.values()))
        self.asked.append(n)
        time.sleep(self.seconds.get(n, 0.0))
        return {"pctr": np.zeros(n)}

    rank = predict


def test_each_size_gets_the_engine_that_was_quicker_for_it() -> None:
    twin, saved = Slowly("twin", {1: 0.0, 256: 0.01}), Slowly("savedmodel", {1: 0.01, 256: 0.0})
    chosen = quicker(twin, saved, raw_rows(5))  # type: ignore[arg-type]
    assert (chosen.small.engine, chosen.large.engine) == ("twin", "savedmodel")


def test_a_request_goes_to_the_engine_of_its_size_by_its_candidates() -> None:
    small, large = Slowly("twin", {}), Slowly("savedmodel", {})
    both = BySize(small, large)  # type: ignore[arg-type]
    for n in (1, 32, 33, 200):
        both.predict(raw_rows(n))
        both.rank(one_request(raw_rows(n), CONTRACT))
    assert small.asked == [1, 1, 32, 32]
    assert large.asked == [33, 33, 200, 200]
