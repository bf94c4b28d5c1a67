"""The document as one page of HTML that needs nothing from elsewhere: no script, no font, no network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

_CODE = re.compile("`([^`]+)`")
_TEMPLATE = Path(__file__).with_name("page.html.j2")


def as_page(document: dict[str, Any]) -> str:
    """HTML of a document of `openapi.describe`."""
    return str(
        _template().render(document=document, resolve=lambda part: _resolved(part, document), kind=_kind)
    )


@cache
def _template() -> Any:
    import jinja2
    import markupsafe

    def words(text: str) -> Any:
        """Text with `code` set as code and blank lines between paragraphs."""
        return markupsafe.Markup(_CODE.sub(r"<code>\1</code>", str(markupsafe.escape(text))))

    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["words"] = words
    return environment.from_string(_TEMPLATE.read_text())


def _resolved(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What a reference of the document stands for, other parts as they are."""
    found: Any = part
    while isinstance(found, dict) and "$ref" in found:
        at: Any = document
        for step in found["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        found = at
    return dict(found)


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words: "integer, 1 to 20", "one of phone, desk", "list of string"."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema.get("properties", {}).get("name", {}):
        return str(schema["properties"]["name"]["const"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        shown = ", ".join(map(str, schema["enum"][:12]))
        return f"one of {shown}" + (", ..." if len(schema["enum"]) > 12 else "")
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = [_kind(part) for part in schema[several]]
            return " or ".join(kinds[:6]) + (f" (and {len(kinds) - 6} more)" if len(kinds) > 6 else "")
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items') or {})}"
    name = schema.get("type", "anything")
    name = " or ".join(name) if isinstance(name, list) else str(name)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None and max(abs(low), abs(high)) < 2**40:
        return f"{name}, {_figure(low)} to {_figure(high)}"
    return f"{name}, at least {_figure(low)}" if low is not None and abs(low) < 2**40 else name


def _figure(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
