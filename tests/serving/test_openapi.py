"""The OpenAPI document: sound, made from the contract, and true: what it allows is answered, what it forbids is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from typer.testing import CliRunner

from clickmill import contract as contracts
from clickmill.command.app import app
from serving import openapi
from serving.limits import Limits
from serving.refusals import refusals
from tests.serving.small_bundle import CONTRACT
from tests.serving.test_front import LIMITS, Edge

PREDICT, RANK = "/v1/models/small:predict", "/v1/models/small:rank"
INFER, INFER_VERSION = "/v2/models/small/infer", "/v2/models/small/versions/{version}/infer"
DOCUMENT = openapi.describe(CONTRACT, limits=LIMITS)


@pytest.fixture(scope="module")
def edge(small_scorer: Any) -> Edge:
    return Edge(small_scorer)


def valid(name: str, document: dict[str, Any] = DOCUMENT) -> Callable[[Any], bool]:
    """Whether a value keeps a schema of the document, by a validator that is not ours."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True).is_valid


def test_every_schema_is_a_json_schema_and_every_reference_leads_somewhere():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        valid(name)({})

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    for reference in references(DOCUMENT):
        at: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]
        assert at
    operations = [call["operationId"] for verbs in DOCUMENT["paths"].values() for call in verbs.values()]
    assert len(operations) == len(set(operations))


def test_the_row_is_the_contracts():
    row = DOCUMENT["components"]["schemas"]["Row"]
    assert row["required"] == ["ad_id"]
    # inputs first, `hour` is computed in the graph, `clicked` may be sent and is ignored
    assert list(row["properties"]) == [
        "user_id", "ad_id", "price", "device", "returning", "history", "categories", "shown_at", "position",
        "clicked",
    ]  # fmt: skip
    assert row["additionalProperties"] is False
    price, device = row["properties"]["price"], row["properties"]["device"]
    assert (price["anyOf"][0]["minimum"], price["anyOf"][0]["maximum"], price["default"]) == (0, 1000, 2.0)
    assert (device["anyOf"][0]["enum"], device["default"]) == (["phone", "desk"], "phone")
    candidate = DOCUMENT["components"]["schemas"]["Candidate"]
    assert set(candidate["properties"]) == {"id", "bid", "ad_id", "price", "categories"}
    assert set(DOCUMENT["components"]["schemas"]["User"]["properties"]) == {"user_id", "returning", "history"}
    assert set(DOCUMENT["components"]["schemas"]["Context"]["properties"]) == {"device", "shown_at"}


def test_limits_and_reasons_are_those_of_the_endpoint():
    schemas = openapi.describe(CONTRACT, limits=Limits(max_rows=7, max_string_bytes=33))["components"][
        "schemas"
    ]
    assert schemas["Rows"]["properties"]["instances"]["maxItems"] == 7
    assert schemas["Ranking"]["properties"]["candidates"]["maxItems"] == 7
    assert schemas["Row"]["properties"]["ad_id"]["maxLength"] == 33
    rules = {
        name: schemas["Ranking"]["properties"][name]["default"] for name in ("slots", "pricing", "reserve")
    }
    assert rules == {"slots": 10, "pricing": "second", "reserve": 0.0}
    answered = set(DOCUMENT["paths"][PREDICT]["post"]["responses"])
    # 501 is for the repository's routes, which are not offered
    assert answered == {"200"} | {str(refusal.http) for _, refusal in refusals()} - {"501"}


@pytest.mark.parametrize("name", ["world", "avazu", "criteo", "movielens", "open_bandit"])
def test_every_contract_of_the_repository_has_a_document(name, request):
    contract = contracts.load(request.config.rootpath / "contracts" / f"{name}.yaml")
    document = openapi.describe(contract)
    schema = valid("Row", document)
    assert schema({n: _example(f) for n, f in contract.inputs.items()})
    assert not schema({"no_such_field": 1})
    assert f"/v1/models/{contract.name}:predict" in openapi.as_page(document)


def _example(field: Any) -> Any:
    if field.allowed:
        return field.allowed[0]
    if field.dtype.is_list:
        return []
    if field.range is not None and field.range.min is not None:
        return int(field.range.min) if field.dtype == "int64" else field.range.min
    return {"string": "x", "int64": 1, "float32": 1.0, "bool": True, "timestamp": 1_700_000_000}[field.dtype]


def test_a_running_endpoint_gives_its_own_document_and_page(edge, small_scorer):
    found = edge.ask("GET", "/openapi.json")
    assert found.status_code == 200
    assert found.json() == json.loads(
        json.dumps(openapi.describe(CONTRACT, model_name="small", limits=LIMITS, digest=small_scorer.digest))
    )
    page = edge.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    for words in (PREDICT, "user_id", "x-request-timeout-ms", small_scorer.digest):
        assert words in page.text
    assert "http" not in page.text.replace("https://spec", ""), "the page asks nobody for anything"
    waiting = Edge(None).ask("GET", "/openapi.json")
    assert (waiting.status_code, waiting.json()["reason"]) == (503, "not_ready")


def test_the_command_prints_the_document_of_a_contract_and_of_a_bundle(small_bundle, tmp_path):
    run = CliRunner().invoke
    printed = run(app, ["contract", "openapi", str(small_bundle / "contract.yaml")])
    assert json.loads(printed.stdout) == json.loads(json.dumps(openapi.describe(CONTRACT)))
    served = run(app, ["serve", str(small_bundle), "--openapi", "--max-rows", "5", "--model-name", "ads"])
    document = json.loads(served.stdout)
    assert "/v1/models/ads:rank" in document["paths"]
    assert document["components"]["schemas"]["Rows"]["properties"]["instances"]["maxItems"] == 5
    page = tmp_path / "api.html"
    assert (
        run(app, ["contract", "openapi", str(small_bundle / "contract.yaml"), "--page", str(page)]).exit_code
        == 0
    )
    assert "<h1>small: click probabilities</h1>" in page.read_text()


# a character of 4 bytes counts four times at the endpoint
SHORT = LIMITS.model_copy(update={"max_string_bytes": LIMITS.max_string_bytes // 4})
SCHEMA = schemathesis.openapi.from_dict(openapi.describe(CONTRACT, limits=SHORT))
FEW = settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
MANY = settings(FEW, max_examples=100)
"""Of what is forbidden many cases never reach the body: a quarter do where the path can be broken too. Which are drawn depends on the
modules loaded beside this one, from which hypothesis takes constants."""


def send(edge: Edge, case: Any) -> httpx.Response:
    """The case as schemathesis would send it, to our application."""
    made = case.as_transport_kwargs(base_url="http://edge")
    headers = {name: str(value).encode("latin-1", "replace") for name, value in made["headers"].items()}
    request = httpx.Request(
        made["method"],
        made["url"],
        params=made["params"],
        headers=headers,
        # not orjson, which has no integers beyond 64 bits
        content=made["data"]
        if "json" not in made
        else json.dumps(_written_as_integers(made["json"])).encode(),
    )
    return edge.send(request)


def _written_as_integers(body: Any) -> Any:
    """2.0 as 2: to JSON Schema it is an integer, to the endpoint none (a float there is mostly a null of pandas gone astray)."""
    if isinstance(body, dict):
        return {name: _written_as_integers(value) for name, value in body.items()}
    if isinstance(body, list):
        return [_written_as_integers(value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@pytest.mark.parametrize(("path", "answer_kind"), [(PREDICT, "Predictions"), (RANK, "Ranked")])
def test_what_the_document_allows_is_answered_as_it_says(edge, path, answer_kind):
    answered = valid(answer_kind)

    @FEW
    @given(case=SCHEMA[path]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def holds(case: Any) -> None:
        case.headers.pop("x-request-timeout-ms", None)  # a millisecond is legal, and not enough
        answer = send(edge, case)
        assert answer.status_code == 200, (answer.text, case.body)
        assert answered(answer.json())

    holds()


BODIES = {PREDICT: "Rows", RANK: "Ranking", INFER: "Tensors", INFER_VERSION: "Tensors"}


@pytest.mark.parametrize("path", BODIES)
def test_what_the_document_forbids_is_refused_as_it_says(edge, path):
    allowed, refusal = valid(BODIES[path]), valid("Refusal")
    refused = 0

    @MANY
    @given(case=SCHEMA[path]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def holds(case: Any) -> None:
        nonlocal refused
        answer = send(edge, case)
        assert answer.status_code in (200, 400, 404, 405, 413, 415, 504), (answer.text, case.body)
        if answer.status_code == 200:
            assert case.media_type == "application/json"
            assert allowed(case.body), f"answered although the document forbids it: {case.body}"
        elif answer.status_code not in (404, 405):
            assert refusal(answer.json())
            refused += 1

    holds()
    assert refused > 2, "the cases were not what they were meant to be"
