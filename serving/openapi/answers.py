"""Answers and refusals of the endpoint as OpenAPI objects; what a refusal is comes from the one table of `serving.refusals`."""

from __future__ import annotations

from typing import Any

from serving.ranking import Source
from serving.refusals import UnknownSignature, refusals

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_PROBABILITY: Schema = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "description": "Calibrated probability of a click.",
}
_LOGIT: Schema = {"type": "number", "description": "ln(pctr / (1 - pctr))."}

HEADERS: dict[str, Schema] = {
    "Bundle": {"description": "Digest of the bundle that answered.", "schema": {"type": "string"}},
    "Version": {
        "description": "Its number in the store, or the first 12 digits of its digest.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which to ask again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "JsonLength": {
        "description": "Bytes of JSON before the buffers.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_NAMES_BUNDLE = {
    "x-clickmill-bundle": {"$ref": "#/components/headers/Bundle"},
    "x-clickmill-version": {"$ref": "#/components/headers/Version"},
}

SCHEMAS: dict[str, Schema] = {
    "Refusal": {
        "type": "object",
        "required": ["error", "reason"],
        "properties": {
            "error": {"type": "string", "description": "What is wrong, where, and what to do."},
            "reason": {
                "enum": sorted({refusal.reason for _, refusal in refusals()}),
                "description": "The same for programs.",
            },
            "path": {
                "type": "string",
                "description": "Where in the body as it was sent.",
                "examples": ["instances[3].user_id", "candidates[0].bid", "inputs[1].data[3]"],
            },
            "field": {"type": "string", "description": "The field of the contract."},
            "row": {"type": "integer", "minimum": 0, "description": "The row or candidate, from 0."},
        },
    },
    "Predictions": {
        "type": "object",
        "required": ["predictions"],
        "properties": {
            "predictions": {
                "type": "array",
                "description": "One for each instance, in their order.",
                "items": {
                    "type": "object",
                    "required": ["pctr", "logit"],
                    "properties": {"pctr": _PROBABILITY, "logit": _LOGIT},
                },
            }
        },
    },
    "Inference": {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object", "properties": {"bundle_digest": {"type": "string"}}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape"],
                    "properties": {
                        "name": {"enum": ["pctr", "logit"]},
                        "datatype": {"const": "FP32"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "data": {"type": "array", "items": _NUMBER},
                        "parameters": {"type": "object"},
                    },
                },
            },
        },
    },
    "Ranked": {
        "type": "object",
        "required": ["ranked", "bundle_digest", "fallback"],
        "properties": {
            "request_id": {"type": ["string", "null"]},
            "bundle_digest": {"type": "string"},
            "fallback": {
                "type": ["string", "null"],
                "description": "Why the model did not answer, a `reason` of a refusal; null where it did. The header `x-clickmill-fallback` says the same.",
            },
            "ranked": {
                "type": "array",
                "description": "The candidates shown, best first.",
                "items": {
                    "type": "object",
                    "required": ["candidate", "id", "pctr", "logit", "ecpm", "price", "source"],
                    "properties": {
                        "candidate": {
                            "type": "integer",
                            "minimum": 0,
                            "description": "Place in the request.",
                        },
                        "id": {"type": ["string", "null"]},
                        "pctr": _PROBABILITY,
                        "logit": _LOGIT,
                        "ecpm": {"type": "number", "description": "1000 pctr x bid."},
                        "price": {"type": "number", "description": "What a click costs, in currency."},
                        "source": {
                            "enum": [source.value for source in Source],
                            "description": "Where the probability comes from: the model, this user's scores of a while ago, or click rates.",
                        },
                        "logit_by_field": {
                            "type": "object",
                            "additionalProperties": _NUMBER,
                            "description": "With `explain=1`: what each field added to the logit, found by leaving it out.",
                        },
                    },
                },
            },
        },
    },
    "Metadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorType"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorType"}},
        },
    },
    "TensorType": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
        },
    },
}


def ref(name: str) -> Schema:
    """Reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_body(schema: Schema) -> dict[str, Any]:
    """Content of an answer or a request in JSON."""
    return {"application/json": {"schema": schema}}


def scored(schema: Schema, words: str) -> dict[str, Any]:
    """The answer 200 of a call that scores."""
    return {"description": words, "headers": dict(_NAMES_BUNDLE), "content": json_body(schema)}


def refused(*statuses: int) -> dict[str, Any]:
    """Responses for these statuses, each with the reasons of the table."""
    found = {}
    for status in statuses:
        reasons = [
            (refusal.reason, kind.__doc__ or "")
            for kind, refusal in refusals()
            if refusal.http == status and kind is not UnknownSignature
        ]
        words = "; ".join(f"`{reason}`: {text.splitlines()[0].rstrip('.')}" for reason, text in reasons)
        response: dict[str, Any] = {
            "description": words or "A bug; its words stay in the log.",
            "content": json_body(ref("Refusal")),
        }
        if status == 503:
            response["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
        found[str(status)] = response
    return found
