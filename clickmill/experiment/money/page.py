"""The page on the cost of miscalibration: what 10 % costs first, then the curves, then how to read them. Loads nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from clickmill.auction import AuctionRules, Pricing
from clickmill.data.world import Competition
from clickmill.evaluation import Estimate
from clickmill.experiment.money.miscalibration import DRAWS, Cost, ErrorKind, baseline
from clickmill.experiment.money.plots import NAMES, cost_plot

SHOWN = 0.1
"""Error that the page talks about."""


def write_page(
    path: Path,
    market: Competition,
    costs: Mapping[ErrorKind, Sequence[Cost]],
    rules: AuctionRules,
    *,
    seed: int,
) -> Path:
    """Write the page. `costs` by kind, each in ascending order and with an error of +10 % among them."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickmill.experiment.money", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    money = baseline(market, rules)
    ten = {kind: next(c for c in found if abs(c.error - SHOWN) < 1e-9) for kind, found in costs.items()}
    common, by_ad = ten[ErrorKind.COMMON], ten[ErrorKind.BY_AD]
    subtitle = f"{len(market):,} requests of a simulated market, {rules.pricing.value} price, reserve {rules.reserve:.3g} eCPM"
    plot = cost_plot(costs, subtitle=subtitle, fmt="svg")
    page = environment.get_template("miscalibration.html.j2").render(
        css=files("clickmill.bundle").joinpath("templates/card.css").read_text(),
        lead=f"Probabilities that are 10 % too high cost a buyer per impression {_percent(common.buyer_profit.value)} of the profit. A seller who ranks by "
        f"eCPM hardly notices a common error; errors that differ by ad cost {_percent(by_ad.revenue.value)} of revenue at 10 %.",
        tiles=[
            _tile(
                "Buyer's profit lost, all pCTR 10 % too high",
                common.buyer_profit,
                f"spends {common.buyer_spend:+.1%}",
            ),
            _tile("Revenue lost, all pCTR 10 % too high", common.revenue, "through the reserve alone"),
            _tile(
                "Revenue lost, each ad off by its own 10 %",
                by_ad.revenue,
                _money(by_ad.revenue, money["revenue"]),
            ),
            _tile(
                "Value lost, each ad off by its own 10 %", by_ad.value, _money(by_ad.value, money["value"])
            ),
        ],
        second=rules.pricing is Pricing.SECOND,
        plot="data:image/svg+xml;base64," + base64.b64encode(plot).decode(),
        rows=[_row(c) for found in costs.values() for c in found if abs(abs(c.error) - SHOWN) < 1e-9],
        spend=f"{common.buyer_spend:.0%}",
        facts={
            "requests": f"{len(market):,}, {market.ad.shape[1]} candidates each, {money['sold']:.2f} slots sold",
            "rules": f"{rules.pricing.value} price, reserve {rules.reserve:.4g} eCPM (currency per thousand impressions)",
            "revenue": f"{money['revenue']:,.0f} per million requests by the true probabilities",
            "value": f"{money['value']:,.0f}, of which advertisers keep {money['surplus']:,.0f}",
            "seed": str(seed),
            "not in it": "advertisers that answer with other bids; budgets; a model that learns from what it has shown",
        },
        footer=f"clickmill {version('clickmill')}. Expected values under the market's true click probabilities: nothing here is drawn but the requests and, "
        f"for the factor per ad, {DRAWS} sets of factors.",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    return path


def _tile(name: str, lost: Estimate, detail: str) -> dict[str, str]:
    half = (lost.high - lost.low) / 2
    return {"name": name, "value": _percent(lost.value), "detail": f"± {100 * half:.2g} %; {detail}"}


def _money(lost: Estimate, total: float) -> str:
    return f"{lost.value * total:,.0f} per million requests"


def _row(cost: Cost) -> dict[str, str]:
    sign = "" if cost.kind is ErrorKind.BY_AD else "+" if cost.error > 0 else "−"
    losses = {name: getattr(cost, name) for name in ("buyer_profit", "value", "revenue", "surplus")}
    return {
        "name": f"{NAMES[cost.kind]}, {sign}{abs(cost.error):.0%}",
        "buyer_spend": f"{cost.buyer_spend:+.1%}",
        **{
            name: "none kept"
            if one is None
            else f"{_percent(one.value)} ({100 * (one.high - one.low) / 2:.2g})"
            for name, one in losses.items()
        },
    }


def _percent(share: float) -> str:
    # -0.00 % would read as a gain.
    return f"{100 * share + 0.0:.2f} %" if abs(share) >= 5e-5 else "0.00 %"
