"""The model card, as Markdown and as one HTML page that loads nothing from elsewhere.

What is said stands in `card_words.py`, how it looks in `templates/`; here the two are put together.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from clickmill.bundle import card_words
from clickmill.bundle.card_words import CardFacts

MARKDOWN, HTML = "card.md", "card.html"
PLOTS = "plots"


@dataclass(frozen=True)
class PlotWords:
    """Title of a plot and the sentence under it."""

    title: str
    caption: str


PLOT_WORDS: dict[str, PlotWords] = {
    "reliability": PlotWords(
        "Reliability",
        "Each point is a fifteenth of the test split: predicted against observed click rate. On the diagonal the "
        "probabilities can be multiplied by bids as they are.",
    ),
    "roc": PlotWords(
        "ROC", "Share of clicks against share of non-clicks above each threshold; the area is the AUC."
    ),
    "lift": PlotWords("Lift", "Click rate of the best-scored tenths over the mean click rate."),
    "learning": PlotWords(
        "NE by epoch",
        "Normalized entropy in training; training stops when the validation rows no longer gain.",
    ),
}
"""Plots in the order of the card; a bundle may hold fewer."""


def render(facts: CardFacts, plots: Mapping[str, bytes]) -> dict[str, str]:
    """The card as {"card.md": ..., "card.html": ...}; `plots` are SVG bytes by name (reliability, roc, lift, learning)."""
    card = card_words.compose(facts)
    card["plots"] = [
        {
            "title": words.title,
            "caption": words.caption,
            "path": f"{PLOTS}/{name}.svg",
            "data_uri": "data:image/svg+xml;base64," + base64.b64encode(plots[name]).decode(),
        }
        for name, words in PLOT_WORDS.items()
        if name in plots
    ]
    css = files("clickmill.bundle").joinpath("templates/card.css").read_text()
    return {
        MARKDOWN: _template("card.md.j2").render(card=card),
        HTML: _template("card.html.j2").render(card=card, css=_safe(css)),
    }


@cache
def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickmill.bundle", "templates"),
        # field names, values and descriptions come from files people wrote: none of them may become markup
        autoescape=name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(name)


def _cell(text: object) -> str:
    """Text inside a Markdown table: a bar or a line break would end the cell."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _safe(css: str) -> Any:
    from markupsafe import Markup

    return Markup(css)
