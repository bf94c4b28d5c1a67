"""Contracts on disk: YAML in and out, with errors that name the YAML path, the line, the value and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clickmill.contract.aggregate import Aggregate
from clickmill.contract.encoding import NUMERIC_KINDS, SLOT_KINDS
from clickmill.contract.feature_contract import FeatureContract
from clickmill.contract.field_problem import FieldProblem
from clickmill.errors import ContractError


def load(path: str | Path) -> FeatureContract:
    """Read a contract from a YAML file. Raises ContractError, which lists every problem found at once."""
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise ContractError(
            f"{path}: cannot be read ({error.strerror}); give the path of a contract YAML"
        ) from error
    return loads(text, origin=str(path))


def loads(text: str, *, origin: str = "contract") -> FeatureContract:
    """Read a contract from YAML text; `origin` is what error messages call it."""
    try:
        node = yaml.compose(text, Loader=_StrictLoader)
        document = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ContractError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ContractError(
            f"{origin}: must be a mapping with `name` and `fields`; got {type(document).__name__}"
        )
    try:
        return FeatureContract.model_validate(document)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in _explain(error, node))
        count = error.error_count()
        raise ContractError(f"{origin}: {count} problem{'s' * (count > 1)}\n{problems}") from error


def dumps(contract: FeatureContract) -> str:
    """The contract as YAML; `loads(dumps(c)) == c`."""
    data = contract.model_dump(mode="json", exclude_defaults=True)
    # `kind` and `format` equal their class defaults but are what tells the encodings apart, so they are put back.
    for name, field in contract.fields.items():
        if field.encoding is not None:
            written = data["fields"][name].get("encoding", {})
            data["fields"][name]["encoding"] = {"kind": field.encoding.kind, **written}
            items = getattr(field.encoding, "items", None)
            if items is not None:
                data["fields"][name]["encoding"]["items"] = {"kind": items.kind, **written.get("items", {})}
    return yaml.dump(data, Dumper=_CompactDumper, sort_keys=False, width=110, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the contract file, for editors (`# yaml-language-server: $schema=...`)."""
    schema = FeatureContract.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice: YAML would keep the last one and the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                where = key_node.start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice; keep one", where
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_CARDS = ({"min", "max"}, set(Aggregate.model_fields))


class _CompactDumper(yaml.SafeDumper):
    """Encodings, ranges and aggregates on one line each, so that a field reads as a card."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)  # type: ignore[no-untyped-call]
        if isinstance(mapping, dict) and ("kind" in mapping or any(set(mapping) <= card for card in _CARDS)):
            node.flow_style = True
        return node


def _explain(error: ValidationError, root: yaml.Node | None) -> list[str]:
    lines = []
    for item in error.errors():
        location: list[Any] = [part for part in item["loc"] if not _is_union_tag(part)]
        problem = item.get("ctx", {}).get("error")
        if isinstance(problem, FieldProblem):
            location, value, remedy = problem.path.split("."), problem.value, problem.remedy
        else:
            value, remedy = item["input"], _remedy(item)
        shown = (
            ""
            if item["type"] == "missing" or isinstance(value, dict)
            else f" got {json.dumps(value, default=str)};"
        )
        line = _line_of(location, root)
        lines.append(f"{'.'.join(str(p) for p in location)} (line {line}):{shown} {remedy}")
    return lines


_TAGS = SLOT_KINDS | NUMERIC_KINDS | {"list"}


def _is_union_tag(part: Any) -> bool:
    # pydantic puts the tag of a discriminated union, or the type of a plain one, into the path; the YAML has no such key
    return isinstance(part, str) and (part in _TAGS or part in {"str", "int", "float", "bool"} or "[" in part)


def _remedy(item: Any) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        return "is required; add it"
    if kind == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    if kind == "enum":
        return f"must be one of {context['expected']}"
    if kind == "union_tag_invalid":
        return f"unknown kind {context['tag']!r}; must be one of {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"say `kind`: one of {', '.join(sorted(_TAGS))}"
    if kind == "string_pattern_mismatch":
        return "must be lower case letters, digits, - and _, starting with a letter"
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _line_of(location: list[Any], node: yaml.Node | None) -> int:
    """1-based line of the deepest node on the path that exists in the file."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is None:
                break
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
