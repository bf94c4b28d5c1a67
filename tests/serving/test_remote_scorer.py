"""A graph in another process: asked once, within the time there is; left alone when it fails, but not when it says why it refuses."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from clickmill.bundle.requests import one_request
from clickmill.errors import BundleError, UsageError
from serving.features import BreakerPolicy
from serving.refusals import PredictorUnavailable
from serving.remote_predictor import RemotePredictor
from serving.remote_scorer import RemoteScorer, connected, due
from tests.serving.small_bundle import CONTRACT, complete, raw_rows, write_small_bundle


class Told:
    """A protocol that does what it is told and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked: list[tuple[str, float]] = []

    def ask(self, raw: Any, signature: str, timeout: float) -> Any:
        self.asked.append((signature, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Refused(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, reason: str | None = None) -> None:
        self._code, self._reason = code, reason

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "in these words"

    def trailing_metadata(self) -> Any:
        return (("x-clickmill-reason", self._reason),) if self._reason else None


@pytest.fixture
def told() -> Told:
    return Told()


def scorer(told: Told, clock: Any = lambda: 0.0) -> RemoteScorer:
    policy = BreakerPolicy(failures=2, pause_s=1.0)
    return RemoteScorer(CONTRACT, "d" * 64, "there:1", told, breaker=policy, clock=clock)


REQUEST = one_request(raw_rows(3), CONTRACT)


def scores(n: int) -> dict[str, np.ndarray]:
    return {"pctr": np.full(n, 0.25, np.float32), "logit": np.zeros(n, np.float32)}


def test_a_ranking_is_one_call_with_the_time_that_is_left(told: Told) -> None:
    told.answer = scores(3)
    with due(0.05):
        assert scorer(told).rank(REQUEST)["pctr"].tolist() == [0.25] * 3
    ((signature, timeout),) = told.asked
    assert signature == "ranking"
    assert 0 < timeout <= 0.05
    scorer(told).predict(raw_rows(3))
    assert told.asked[1] == ("serving_default", 1.0), "what names no time has the default"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Refused(grpc.StatusCode.UNAVAILABLE), "there:1: UNAVAILABLE: in these words"),
        (scores(2), r"answers with something else than scores: scores of shape \(2,\) for 3 rows"),
        ({"pctr": np.zeros(3)}, "answers with something else than scores: 'logit'"),
    ],
)
def test_a_predictor_that_fails_is_left_alone_and_tried_again(told: Told, answer: Any, words: str) -> None:
    now = [0.0]
    remote = scorer(told, lambda: now[0])
    told.answer = answer
    for _ in range(2):
        with pytest.raises(PredictorUnavailable, match=words):
            remote.rank(REQUEST)
    with pytest.raises(PredictorUnavailable, match="left alone for a moment"):
        remote.rank(REQUEST)
    assert len(told.asked) == 2
    now[0], told.answer = 1.1, scores(3)
    for _ in range(3):
        remote.rank(REQUEST)
    assert len(told.asked) == 5


def test_a_predictor_that_says_why_it_refuses_is_asked_again_at_once(told: Told) -> None:
    remote = scorer(told)
    told.answer = Refused(grpc.StatusCode.UNAVAILABLE, "overload")
    for _ in range(5):
        with pytest.raises(PredictorUnavailable, match="UNAVAILABLE"):
            remote.rank(REQUEST)
    assert len(told.asked) == 5


@pytest.mark.parametrize("protocol", ["grpc-v2", "tf-serving"])
def test_nobody_there_is_told_at_once(protocol: str) -> None:
    remote = RemoteScorer(CONTRACT, "d" * 64, "127.0.0.1:1", connected("127.0.0.1:1", "small", protocol))
    with due(30.0), pytest.raises(PredictorUnavailable, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
        remote.rank(REQUEST)


def test_a_predictor_of_another_kind_is_told_by_what_it_lacks() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    remote = RemoteScorer(CONTRACT, "d" * 64, "x", connected(f"127.0.0.1:{port}", "small", "grpc-v2"))
    with pytest.raises(PredictorUnavailable, match="UNIMPLEMENTED"):
        remote.rank(REQUEST)
    server.stop(None)


def test_a_bundle_is_opened_without_its_graph(tmp_path: Path) -> None:
    whole, few = write_small_bundle(tmp_path / "whole"), tmp_path / "few"
    few.mkdir()
    for name in ("manifest.json", "contract.yaml", "priors.parquet"):
        (few / name).write_bytes((whole / name).read_bytes())
    loaded = RemotePredictor(target="there:1", model_name="small").loader()(few)
    assert loaded.scorer.contract == CONTRACT
    assert loaded.priors is not None
    (whole / "priors.parquet").unlink()
    complete(whole, CONTRACT)
    with pytest.raises(BundleError, match="has no click rates"):
        RemotePredictor(target="there:1", model_name="small").loader()(whole)
    with pytest.raises(UsageError, match="must be grpc-v2 or tf-serving; rankings have no REST form"):
        RemotePredictor(target="there:1", model_name="small", protocol="v1").loader()
