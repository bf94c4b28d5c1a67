"""A pydantic JSON Schema as the structural schema that a CustomResourceDefinition asks for.

No references, no titles, no null (what is missing is left out), exclusive bounds as OpenAPI 3.0 spells them. `x-kubernetes-*` goes
through. What the API server would not take raises, rather than being left out: a rule that is dropped in silence guards nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEPT = frozenset(
    {
        "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
        "required", "default", "description",
    }
)  # fmt: skip
_DROPPED = frozenset({"title", "$defs"})


def structural(schema: Mapping[str, Any], *, defaults: bool = True) -> dict[str, Any]:
    """The whole schema. defaults: whether the API server fills in what is missing. Raises ValueError naming a keyword that has no place in a structural schema.

    >>> structural({"properties": {"share": {"exclusiveMinimum": 0, "title": "Share", "type": "number"}}, "type": "object"})
    {'type': 'object', 'properties': {'share': {'type': 'number', 'minimum': 0, 'exclusiveMinimum': True}}}
    """
    found = _node(schema, schema.get("$defs", {}))
    if not defaults:
        _drop_defaults(found)
    return found


def _drop_defaults(node: dict[str, Any]) -> None:
    node.pop("default", None)
    for each in node.get("properties", {}).values():
        _drop_defaults(each)
    for key in ("items", "additionalProperties"):
        if key in node:
            _drop_defaults(node[key])


def _node(given: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    schema = _resolved(given, defs)
    found: dict[str, Any] = {}
    if "description" in schema:
        found["description"] = " ".join(schema["description"].split())
    if "type" in schema:
        found["type"] = schema["type"]
    for key, value in schema.items():
        if key in ("description", "type") or key in _DROPPED or (key == "default" and value is None):
            continue
        if key == "exclusiveMinimum":
            found |= {"minimum": value, "exclusiveMinimum": True}
        elif key == "exclusiveMaximum":
            found |= {"maximum": value, "exclusiveMaximum": True}
        elif key == "properties":
            found["properties"] = {name: _node(each, defs) for name, each in value.items()}
        elif key == "items":
            found["items"] = _node(value, defs)
        elif key == "additionalProperties":
            # `false` is what the API server does anyway: it prunes what it does not know.
            if value is not False:
                found["additionalProperties"] = _node(value, defs)
        elif key in _KEPT or key.startswith("x-kubernetes-"):
            found[key] = value
        else:
            raise ValueError(f"{key} has no place in a structural schema (in {sorted(schema)})")
    return found


def _resolved(given: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Without reference and without the choice of null; what stands beside a reference goes before what it refers to."""
    schema = dict(given)
    choices = schema.pop("anyOf", None)
    if choices is not None:
        (only,) = (each for each in choices if each.get("type") != "null")
        schema = {**only, **schema}
    reference = schema.pop("$ref", None)
    if reference is not None:
        schema = {**_resolved(defs[reference.removeprefix("#/$defs/")], defs), **schema}
    return schema


__all__ = ["structural"]
