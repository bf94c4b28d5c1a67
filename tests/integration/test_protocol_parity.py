"""One bundle, one set of rows, every way to ask: the golden predictions come back by each protocol, each engine, and offline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from clickmill import bundle as bundles
from clickmill import data, features
from clickmill.bundle import golden
from clickmill.command.app import app
from clickmill.contract import FeatureContract, loads
from clickmill.features.raw import to_arrow
from clickmill.features.sides import shared_fields
from clickmill.training import TrainingConfig, train
from serving.client import AsyncClient, AsyncGrpcClient, Client, GrpcClient
from serving.client.tensorflow import AsyncPredictionClient, PredictionClient
from serving.process import Endpoint, running_server
from serving.rows import json_rows
from tests.clickmill.bundle.conftest import CONTRACT as TEXT
from tests.clickmill.bundle.conftest import impressions

pytestmark = pytest.mark.integration

NAME = "toy-market"
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained DCN-v2 with calibration and a position: everything that stands in an exported graph."""
    root = tmp_path_factory.mktemp("parity")
    impressions().to_parquet(root / "log.parquet", coerce_timestamps="us")
    dataset = data.prepare([root / "log.parquet"], loads(TEXT), root / "dataset")
    sizes = {"dim": 4, "units": [8], "cross_layers": 2}
    config = TrainingConfig(epochs=1, batch_size=256)
    trained = train(
        dataset, features.fit(dataset), "dcn_v2", model_config=sizes, config=config, out=root / "t"
    )
    return Path(bundles.build_bundle(trained, dataset, root / "bundle", method="platt", resamples=20).path)


@pytest.fixture(scope="module")
def contract(bundle: Path) -> FeatureContract:
    return bundles.load(bundle).contract


@pytest.fixture(scope="module")
def raw(bundle: Path, contract: FeatureContract) -> dict[str, np.ndarray]:
    return golden.read(bundle, contract)


@pytest.fixture(scope="module")
def expected(bundle: Path) -> np.ndarray:
    return pq.read_table(bundle / golden.GOLDEN)["pctr"].to_numpy()


@pytest.fixture(scope="module", params=["savedmodel", "twin"])
def endpoint(request: pytest.FixtureRequest, bundle: Path) -> Iterator[Endpoint]:
    with running_server(bundle, model_name=NAME, engine=request.param, wait_seconds=400) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rows(raw: dict[str, np.ndarray], contract: FeatureContract) -> list[dict[str, Any]]:
    return json_rows(to_arrow(raw, contract), contract.inputs)


def v1(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with Client(endpoint.url, model_name=NAME) as client:
        return client.predict(rows).pctr


def cloud_event(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "ad.request"}
    answer = httpx.post(
        f"{endpoint.url}/v1/models/{NAME}:predict", json={"instances": rows}, headers=event, timeout=30
    )
    return np.array([found["pctr"] for found in answer.json()["predictions"]])


def v2_json(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with Client(endpoint.url, model_name=NAME) as client:
        return client.predict_tensors(raw, binary=False).pctr


def v2_binary(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with Client(endpoint.url, model_name=NAME) as client:
        return client.predict_tensors(raw).pctr


def v2_grpc(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with GrpcClient(endpoint.grpc_target, model_name=NAME) as client:
        return client.predict_tensors(raw).pctr


def tf_predict(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with PredictionClient(endpoint.grpc_target, model_name=NAME, contract=contract) as client:
        return client.predict_tensors(raw).pctr


def tf_classify(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with PredictionClient(endpoint.grpc_target, model_name=NAME, contract=contract) as client:
        return client.classify(rows)


def tf_regress(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    with PredictionClient(endpoint.grpc_target, model_name=NAME, contract=contract) as client:
        return client.regress(rows)


def awaited(endpoint: Endpoint, contract: Any, raw: Any, rows: Any) -> np.ndarray:
    async def ask() -> np.ndarray:
        async with (
            AsyncClient(endpoint.url, model_name=NAME) as rest,
            AsyncGrpcClient(endpoint.grpc_target, model_name=NAME) as rpc,
            AsyncPredictionClient(endpoint.grpc_target, model_name=NAME, contract=contract) as tensorflow,
        ):
            answers = await asyncio.gather(
                rest.predict(rows),
                rest.predict_tensors(raw),
                rpc.predict_tensors(raw),
                tensorflow.predict_tensors(raw),
            )
            singles = await asyncio.gather(tensorflow.classify(rows), tensorflow.regress(rows))
            assert await rest.ready()
            assert await rpc.ready()
            assert await tensorflow.ready()
        every = [*(answer.pctr for answer in answers), *singles]
        for one in every[1:]:
            np.testing.assert_allclose(one, every[0], atol=TOLERANCE)
        return every[0]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "ask",
    [v1, cloud_event, v2_json, v2_binary, v2_grpc, tf_predict, tf_classify, tf_regress, awaited],
    ids=lambda ask: ask.__name__,
)
def test_every_protocol_gives_the_golden_predictions(
    endpoint, contract, raw, rows, expected, ask: Callable[..., np.ndarray]
):
    np.testing.assert_allclose(ask(endpoint, contract, raw, rows), expected, rtol=0, atol=TOLERANCE)


def test_a_ranking_of_one_candidate_is_the_prediction_of_its_row_at_the_default_position(
    endpoint, contract, rows
):
    shared = shared_fields(contract)
    with Client(endpoint.url, model_name=NAME) as client:
        unplaced = [{name: value for name, value in row.items() if name != "position"} for row in rows]
        expected = client.predict(unplaced).pctr
        found = []
        for row in unplaced:
            context = {name: value for name, value in row.items() if name in shared}
            candidate = {name: value for name, value in row.items() if name not in shared}
            # a large bid and no reserve: the slot is sold however small the probability, but for the rows that float32 rounds to 0
            ranked = client.rank([candidate | {"bid": 1000.0}], context=context, on_failure="error")
            assert ranked.fallback is None
            found.append(ranked.ads[0].pctr if ranked.ads else 0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_a_ranking_of_many_by_predict_is_the_prediction_of_its_rows(endpoint, contract, raw):
    shared = shared_fields(contract)
    request = {name: values[:1] if name in shared else values for name, values in raw.items()}
    rows = len(raw["ad_id"])
    repeated = {n: np.repeat(v, rows, axis=0) if n in shared else v for n, v in request.items()}
    with PredictionClient(endpoint.grpc_target, model_name=NAME, contract=contract) as client:
        found, expected = client.rank_tensors(request), client.predict_tensors(repeated)
    np.testing.assert_allclose(found.pctr, expected.pctr, rtol=0, atol=TOLERANCE)


def test_offline_scores_are_those_of_the_endpoint(endpoint, bundle, contract, raw, expected, tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(to_arrow(raw, contract), file)
    here = CliRunner().invoke(app, ["predict", str(file), "--bundle", str(bundle)])
    assert here.exit_code == 0, here.output
    there = CliRunner().invoke(
        app, ["predict", str(file), "--url", endpoint.url, "--contract", str(bundle / "contract.yaml")]
    )
    assert there.exit_code == 0, there.output
    offline, online = (
        np.array([json.loads(line)["pctr"] for line in result.stdout.splitlines()])
        for result in (here, there)
    )
    np.testing.assert_allclose(offline, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(online, offline, rtol=0, atol=TOLERANCE)
