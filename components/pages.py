"""The pages and tables that steps show in the Kubeflow UI: plain self-contained HTML, and Markdown that every viewer reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Row = Sequence[Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .25rem 0 .75rem; } .lead { font-size: 1.05rem; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--soft); padding: .75rem 1rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Table:
    """A titled table; numbers are set right and separated by thousands."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A titled block of text kept as it is: an error's words, a YAML file."""

    title: str
    body: str


def facts(title: str, values: Mapping[str, Any]) -> Table:
    """Names and values as a table of two columns."""
    return Table(title, ("", ""), tuple(values.items()))


def shown(value: Any) -> str:
    """A value as people read it: 1,234,567; 0.8312; 2.1 %."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def html(title: str, lead: str, parts: Iterable[Table | Text]) -> str:
    """A page that needs no network: the UI shows it in a frame of its own."""
    body = "\n".join(_html_table(part) if isinstance(part, Table) else _html_text(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>\n{body}\n</body></html>\n'
    )


def markdown(title: str, lead: str, parts: Iterable[Table | Text]) -> str:
    """The same as Markdown."""
    body = "\n".join(
        _markdown_table(part) if isinstance(part, Table) else _markdown_text(part) for part in parts
    )
    return f"# {title}\n\n{lead}\n\n{body}"


def _html_table(table: Table) -> str:
    head = (
        "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in table.head) + "</tr>"
        if any(table.head)
        else ""
    )
    # In a table of names and values a number is read beside its name, not against the other numbers.
    cell = _html_cell if any(table.head) else lambda value: f"<td>{escape(shown(value))}</td>"
    rows = "\n".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return f'<h2>{escape(table.title)}</h2>{note}<div class="wide"><table>{head}\n{rows}</table></div>'


def _html_cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{' class=number' * number}>{escape(shown(value))}</td>"


def _html_text(text: Text) -> str:
    return f"<h2>{escape(text.title)}</h2><pre>{escape(text.body)}</pre>"


def _markdown_table(table: Table) -> str:
    note = f"{table.note}\n\n" if table.note else ""
    lines = [_markdown_row(table.head), "|" + " --- |" * len(table.head), *map(_markdown_row, table.rows)]
    return f"## {table.title}\n\n{note}" + "\n".join(lines) + "\n"


def _markdown_row(row: Row) -> str:
    cells = (shown(value).replace("|", "\\|").replace("\n", "<br>") for value in row)
    return "| " + " | ".join(cells) + " |"


def _markdown_text(text: Text) -> str:
    fence = "````" if "```" in text.body else "```"
    return f"## {text.title}\n\n{fence}\n{text.body}\n{fence}\n"
