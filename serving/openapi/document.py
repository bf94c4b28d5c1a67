"""The document itself: the paths of one endpoint, made from the contract of the bundle it serves.

https://spec.openapis.org/oas/v3.1.1
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from clickmill.auction import AuctionRules
from clickmill.contract import FeatureContract
from serving.limits import MAX_JSON_DEPTH, Limits
from serving.openapi import fields
from serving.openapi.answers import HEADERS, SCHEMAS, json_body, ref, refused, scored
from serving.ranking import HOUSE_RULES

_ABOUT = """Click probabilities of one model over KServe's V1 and V2 protocols, and rankings.

A request is held to the feature contract of the bundle in service: unknown fields, wrong types, values out of range and missing required \
fields are answered 400 with the `path` of the problem in the body. A body has at most {body:,} bytes (413) and JSON at most {depth:,} levels, \
a request {rows:,} rows or candidates, a string {text:,} bytes; a body must arrive within {seconds:g} s (408). Of two equal keys in one JSON \
object the last one counts.

The same calls are on the gRPC port: `inference.GRPCInferenceService` and `tensorflow.serving.PredictionService`."""

_TIMEOUT = {
    "name": "x-request-timeout-ms",
    "in": "header",
    "description": "How long the caller waits, in milliseconds. A request that is too late where scoring would begin is answered 504 and not scored.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "description": "Name of the request in the prediction log, of which 256 characters are kept; drawn where it is absent.",
    "schema": {"type": "string"},
}
_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of JSON before the buffers, for a body of `application/octet-stream`.",
    "schema": {"type": "integer", "minimum": 1},
}
_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "1: say of each of the ten best what every field added to its logit.",
    "schema": {"enum": ["0", "1"]},
}
_ON_FAILURE = {
    "name": "x-clickmill-on-failure",
    "in": "header",
    "description": "What to answer where the model cannot: `fallback`, a ranking by click rates, marked as such, or `error`. Default: as the endpoint was started.",
    "schema": {"enum": ["fallback", "error"]},
}
_SCORING = (400, 404, 408, 413, 415, 500, 503, 504)


def describe(
    contract: FeatureContract,
    *,
    model_name: str | None = None,
    limits: Limits | None = None,
    digest: str | None = None,
) -> dict[str, Any]:
    """OpenAPI 3.1 of an endpoint that serves a bundle of this contract under `model_name` (the contract's name when None).

    `digest` names the bundle in service; a document made without an endpoint has none.
    """
    limits = limits or Limits()
    name = model_name or contract.name
    v1, v2 = f"/v1/models/{quote(name)}", f"/v2/models/{quote(name)}"
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "Number in the store, or digest; answered 404 unless it is in service.",
        "schema": {"type": "string", "pattern": "^[^/]+$"},
    }
    about = _ABOUT.format(
        body=limits.max_body_bytes,
        depth=MAX_JSON_DEPTH,
        rows=limits.max_rows,
        text=limits.max_string_bytes,
        seconds=limits.body_seconds,
    )
    return {
        "openapi": "3.1.1",
        "info": {
            "title": f"{name}: click probabilities",
            "description": f"{contract.description}\n\n{about}".strip(),
            "version": digest[:12] if digest else str(contract.version),
            "x-clickmill-bundle": digest,
            "x-clickmill-contract": contract.digest,
        },
        "tags": [
            {"name": "V1", "description": "Rows of JSON."},
            {
                "name": "V2",
                "description": "Tensors by column (Open Inference Protocol), as JSON or as buffers.",
            },
            {"name": "ranking", "description": "One user, one context, N candidates, an auction."},
            {"name": "state", "description": "Health, metadata, metrics."},
        ],
        "paths": {
            f"{v1}:predict": {"post": _predict()},
            f"{v1}:rank": {"post": _rank()},
            f"{v2}/infer": {"post": _infer("infer", [])},
            f"{v2}/versions/{{version}}/infer": {"post": _infer("infer_version", [version])},
            **_state(v1, v2),
        },
        "components": {"headers": HEADERS, "schemas": SCHEMAS | _contract_schemas(contract, limits)},
    }


def _contract_schemas(contract: FeatureContract, limits: Limits) -> dict[str, Any]:
    parts = fields.ranked_parts(contract, limits)
    rules, house = AuctionRules.model_json_schema(), HOUSE_RULES.model_dump(mode="json")
    tensors = [fields.tensor(name, field, limits) for name, field in contract.inputs.items()]
    return {
        **rules.pop("$defs", {}),
        "Row": fields.row(contract, limits),
        "User": parts["user"],
        "Context": parts["context"],
        "Candidate": parts["candidate"],
        "Rows": {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": {
                    "type": "array",
                    "items": ref("Row"),
                    "minItems": 1,
                    "maxItems": limits.max_rows,
                },
                "signature_name": {"const": "serving_default"},
            },
        },
        "Ranking": {
            "type": "object",
            "required": ["candidates", *(part for part in ("user", "context") if "required" in parts[part])],
            "additionalProperties": False,
            "properties": {
                "request_id": {"type": ["string", "null"]},
                "user": ref("User"),
                "context": ref("Context"),
                "candidates": {
                    "type": "array",
                    "items": ref("Candidate"),
                    "minItems": 1,
                    "maxItems": limits.max_rows,
                },
                **{
                    name: {**_within_document(rule), "default": house[name]}
                    for name, rule in rules["properties"].items()
                },
            },
        },
        "Tensors": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": ["string", "null"]},
                "parameters": {
                    "type": ["object", "null"],
                    "properties": {
                        "binary_data_output": {"type": "boolean"},
                        "signature_name": {
                            "enum": ["serving_default", "ranking", "", None],
                            "description": "`ranking`: fields that all candidates share have one row, the others n.",
                        },
                    },
                },
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "description": "Each at most once, all with the same number of rows (but for `ranking`); one that is left out takes the contract's default in every row.",
                    "items": {"oneOf": tensors},
                    "allOf": [
                        {"contains": {"properties": {"name": {"const": name}}, "required": ["name"]}}
                        for name, field in contract.inputs.items()
                        if field.required
                    ],
                },
                "outputs": {
                    "type": ["array", "null"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"enum": ["pctr", "logit"]},
                            "parameters": {
                                "type": ["object", "null"],
                                "properties": {"binary_data": {"type": "boolean"}},
                            },
                        },
                    },
                },
            },
        },
    }


def _within_document(schema: Any) -> Any:
    """A schema of pydantic with its references turned to where they stand here."""
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref"
            else _within_document(value)
            for key, value in schema.items()
        }
    return [_within_document(part) for part in schema] if isinstance(schema, list) else schema


def _predict() -> dict[str, Any]:
    return {
        "operationId": "predict",
        "tags": ["V1"],
        "summary": "Score rows",
        "parameters": [_TIMEOUT, _REQUEST_ID],
        "requestBody": {"required": True, "content": json_body(ref("Rows"))},
        "responses": {"200": scored(ref("Predictions"), "A probability for each row."), **refused(*_SCORING)},
    }


def _rank() -> dict[str, Any]:
    return {
        "operationId": "rank",
        "tags": ["ranking"],
        "summary": "Rank the candidates of one request and price the slots",
        "description": "A field of user or context may stand in either; one that differs by candidate stands with each of them.",
        "parameters": [_TIMEOUT, _EXPLAIN, _ON_FAILURE],
        "requestBody": {"required": True, "content": json_body(ref("Ranking"))},
        "responses": {"200": scored(ref("Ranked"), "The slots sold, best first."), **refused(*_SCORING)},
    }


def _infer(operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    answered = scored(
        ref("Inference"), "The outputs; as buffers after the JSON where the request asks for that."
    )
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    answered["content"] |= binary
    answered["headers"]["Inference-Header-Content-Length"] = {"$ref": "#/components/headers/JsonLength"}
    return {
        "operationId": operation,
        "tags": ["V2"],
        "summary": "Score tensors",
        "parameters": [*parameters, _TIMEOUT, _JSON_LENGTH],
        "requestBody": {"required": True, "content": json_body(ref("Tensors")) | binary},
        "responses": {"200": answered, **refused(*_SCORING)},
    }


def _state(v1: str, v2: str) -> dict[str, Any]:
    ready = {"type": "object", "required": ["ready"], "properties": {"ready": {"const": True}}}
    named = {**ready, "properties": {**ready["properties"], "name": {"type": "string"}}}

    def get(operation: str, words: str, schema: Any, *statuses: int) -> dict[str, Any]:
        responses = {"200": {"description": words, "content": json_body(schema)}, **refused(*statuses)}
        return {
            "get": {"operationId": operation, "tags": ["state"], "summary": words, "responses": responses}
        }

    metrics = get("metrics", "Metrics in Prometheus' text form", {})
    metrics["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    names = {"type": "object", "properties": {"models": {"type": "array", "items": {"type": "string"}}}}
    return {
        "/v1/models": get("models", "Names of the models", names),
        v1: get("model_ready_v1", "Whether the model answers", named, 503),
        v2: get("metadata", "Inputs and outputs, and the version in service", ref("Metadata"), 503),
        f"{v2}/ready": get("model_ready", "Whether the model answers", named, 503),
        "/v2": get("server_metadata", "Name, version and extensions of the server", {"type": "object"}),
        "/v2/health/live": get("live", "Whether the process runs", {"type": "object"}),
        "/v2/health/ready": get("ready", "Whether it would answer; no while it drains", ready, 503),
        "/metrics": metrics,
        "/openapi.json": get("openapi", "This document", {"type": "object"}, 503),
    }
