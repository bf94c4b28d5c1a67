"""`clickmill auction`: what probabilities are worth once they are multiplied by bids."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from clickmill.auction import Pricing
from clickmill.command.console import AsJson, print_facts, print_json, words

app = typer.Typer(no_args_is_help=True, help="Find out what click probabilities are worth in money.")

ERRORS = (-0.5, -0.4, -0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Relative errors of the curves."""


@app.callback()
def _group() -> None:
    """Find out what click probabilities are worth in money."""  # keeps `miscalibration` a word of its own while it is the only one


@app.command()
def miscalibration(
    out: Annotated[Path, typer.Option(help="Page to write (HTML).")] = Path("out/miscalibration.html"),
    impressions: Annotated[
        int, typer.Option(min=1000, max=5_000_000, help="Impressions of the simulated market.")
    ] = 200_000,
    reserve: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Least eCPM at which a slot is sold. Default: the median eCPM of the market's candidates.",
        ),
    ] = None,
    pricing: Annotated[Pricing, typer.Option(help="How the price of a click is set.")] = Pricing.SECOND,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market, and of the errors by ad.")] = 7,
    json: AsJson = False,
) -> None:
    """Write a page with curves of what a wrong click probability costs.

    A market is simulated whose true click probabilities are known. Its requests are sold twice, by the true probabilities and by distorted
    ones, clicks coming by the truth both times: the difference is the cost, exact but for the draw of the requests. Seller, advertisers, and a
    buyer who pays per impression lose differently; the page says how. About 10 s for 200,000 impressions.

    [bold]Exit status[/bold]: 0 written, 1 nothing is sold even by the truth (the reserve is too high), 2 wrong usage.
    """
    import numpy as np

    from clickmill.auction import AuctionRules
    from clickmill.data.world import WorldConfig, competition
    from clickmill.experiment.money import ErrorKind, baseline, curve, write_page

    words.print(f"simulating {impressions:,} impressions ...", style="dim")
    market = competition(WorldConfig(impressions=impressions, seed=seed))
    ecpm = 1000 * market.relevance * market.bid
    least = float(np.median(ecpm[ecpm > 0])) if reserve is None else reserve
    rules = AuctionRules(slots=int(market.slots.max()), pricing=pricing, reserve=least)
    costs = {
        kind: curve(
            market, kind, [e for e in ERRORS if e >= 0 or kind is not ErrorKind.BY_AD], rules, seed=seed
        )
        for kind in ErrorKind
    }
    page = write_page(out, market, costs, rules, seed=seed)
    if json:
        found = {str(kind): [_plain(asdict(cost)) for cost in costs[kind]] for kind in costs}
        print_json(
            {
                "page": str(page),
                "rules": rules.model_dump(),
                "baseline": baseline(market, rules),
                "costs": found,
            }
        )
        return
    facts = {}
    for kind, curve_found in costs.items():
        ten = next(cost for cost in curve_found if cost.error == 0.1)
        facts[f"{kind.replace('_', ' ')} +10 %"] = (
            f"buyer's profit {-ten.buyer_profit.value:+.2%}, value {-ten.value.value:+.2%}, revenue {-ten.revenue.value:+.2%}"
        )
    print_facts(f"{page}: what an error of 10 % does", facts)


def _plain(cost: dict) -> dict:
    return {
        name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in cost.items()
    }
