"""Prices and budgets on the market's truth: what the rules earn, and what pacing does to a day on short budgets.

    python tests/bench/money.py [--impressions 200000] [--markets 5]

What a wrong pCTR costs is `clickmill auction miscalibration`.
"""

from __future__ import annotations

import argparse

import numpy as np

from clickmill.auction import AuctionRules, Pricing, expected, hold_many, vcg
from clickmill.data.world import Competition, WorldConfig, competition
from clickmill.experiment.money import Pacing, budget_day


def rules_table(market: Competition) -> None:
    ecpm = 1000 * market.relevance * market.bid
    print(
        "revenue per thousand requests at honest bids, and share of the value that advertisers keep, by reserve (eCPM)"
    )
    for q in (0.0, 0.5, 0.75, 0.9):
        reserve = float(np.quantile(ecpm[ecpm > 0], q)) if q else 0.0
        cells = []
        for name in (*Pricing, "vcg"):
            rules = AuctionRules(
                slots=int(market.slots.max()),
                reserve=reserve,
                pricing=Pricing.SECOND if name == "vcg" else name,
            )
            args = (market.relevance, market.bid, rules)
            sold = (
                vcg(*args, market.examination, slots=market.slots)
                if name == "vcg"
                else hold_many(*args, slots=market.slots)
            )
            got = expected(sold, market.relevance, market.bid, market.examination)
            cells.append(
                f"{name} {1000 * got.revenue.mean():7.2f} ({got.surplus.sum() / got.value.sum():.0%} kept)"
            )
        print(f"  reserve {reserve:6.2f}: " + "   ".join(cells))


def budgets_table(impressions: int, markets: int) -> None:
    rows: dict[Pacing, list[tuple[float, ...]]] = {pacing: [] for pacing in Pacing}
    for seed in range(markets):
        market = competition(
            WorldConfig(impressions=impressions, days=2, n_ads=400, n_users=5000, seed=201 + seed)
        )
        rules = AuctionRules(slots=int(market.slots.max()))
        for pacing in Pacing:
            day = budget_day(market, pacing, rules, tightness=0.4, seed=seed)
            there = day.budget > 0
            evening = day.spend_by_quarter[72:].sum() / day.spend_by_quarter.sum()
            rows[pacing].append(
                (
                    day.spent.sum() / day.budget.sum(),
                    day.out_at,
                    day.active_by_quarter[-1],
                    evening,
                    day.worth_per_money,
                    day.free.sum() / day.spent.sum(),
                    float((day.spent[there] <= day.budget[there] * (1 + 1e-9)).all()),
                )
            )
    print(
        f"\nbudgets of 40 % of a free day's spend, {markets} markets of {impressions:,} impressions in two days; mean (lowest to highest)"
    )
    names = (
        "budget spent",
        "half out by hour",
        "with money in the last quarter",
        "spend after 18:00",
        "value per money",
        "free clicks",
        "kept",
    )
    for pacing, found in rows.items():
        columns = np.array(found).T
        print(f"  {pacing}")
        for name, values in zip(names, columns, strict=True):
            held = values[~np.isnan(values)]
            text = "never" if not len(held) else f"{held.mean():.3f} ({held.min():.3f} to {held.max():.3f})"
            print(f"    {name:<32} {text}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--impressions", type=int, default=200_000)
    parser.add_argument("--markets", type=int, default=5)
    args = parser.parse_args()
    rules_table(competition(WorldConfig(impressions=args.impressions, seed=200)))
    budgets_table(args.impressions, args.markets)


if __name__ == "__main__":
    main()
