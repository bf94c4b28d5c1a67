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
from clickmill.evaluation import Evaluation

MARKDOWN, HTML = "card.md", "card.html"
PLOTS = "plots"


@dataclass(frozen=True)
class PlotWords:
    """Title of a plot, the sentence under it, and whether it takes the whole width of the page."""

    title: str
    caption: str
    wide: bool = False


PLOT_WORDS: dict[str, PlotWords] = {
    "reliability": PlotWords(
        "Reliability",
        "Each point is a fifteenth of the test split: predicted against observed click rate. On the diagonal the "
        "probabilities can be multiplied by bids as they are.",
    ),
    "roc": PlotWords(
        "ROC", "Share of clicks against share of non-clicks above each threshold; the area is the AUC."
    ),
    "lift": PlotWords(
        "Lift",
        "Left: click rate and mean prediction of each tenth of the impressions, best-scored first. Right: the share of the "
        "clicks among them.",
        wide=True,
    ),
    "slices": PlotWords(
        "Calibration by slice",
        "Calibration ratio of each slice; where the interval leaves 1 out, it is off beyond chance.",
        wide=True,
    ),
    "learning": PlotWords(
        "NE by epoch",
        "Normalized entropy of the validation rows in the course of the passes over the train split; training stops when it no longer "
        "falls.",
    ),
}
"""Plots in the order of the card; a bundle may hold fewer."""


def draw(evaluation: Evaluation, meta: Mapping[str, Any]) -> dict[str, bytes]:
    """Every plot of the card as SVG bytes, by name. `meta`: history and best_epoch of the training."""
    from clickmill.evaluation import plots

    drawn = {
        "reliability": plots.reliability_diagram(evaluation),
        "roc": plots.roc_plot(evaluation),
        "lift": plots.lift_curve(evaluation),
        "learning": plots.entropy_history(
            [record["epoch"] for record in meta["history"]],
            [record["ne"] for record in meta["history"]],
            best_epoch=meta["best_epoch"],
        ),
    }
    if evaluation.slices:
        drawn["slices"] = plots.slice_forest(evaluation)
    return drawn


def render(facts: CardFacts, plots: Mapping[str, bytes]) -> dict[str, str]:
    """The card as {"card.md": ..., "card.html": ...}; `plots` are SVG bytes by name (reliability, roc, lift, learning)."""
    card = card_words.compose(facts)
    card["plots"] = [
        {
            "title": words.title,
            "caption": words.caption,
            "wide": words.wide,
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
