"""Does the release machine keep its promises? Thousands of drawn releases, looked at after every interval.

    python tests/bench/releases.py [--releases 1000] [--looks 50]

Prints, for equal bundles, how many were ever refused (promised: at most 1 %), beside what a fixed-sample interval of the same level
looked at as often would refuse; and for bundles with a fault, how many were refused and after how many impressions.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy.stats import beta

from clickmill.release import Period, ReleasePolicy, Verdict
from clickmill.release.live_checks import canary_checks
from tests.clickmill.release import market

FAULTS = {
    "equal bundles": {},
    "equal, 0.8 % errors": {"errors": 0.008},
    "predicts 15 % too much": {"times": 1.15},
    "predicts 20 % too much": {"times": 1.2},
    "predicts 50 % too much": {"times": 1.5},
    "predicts three times as much": {"times": 3.0},
    "3 % errors": {"errors": 0.03},
    "5 % slower than the promise": {"slow": 0.05},
}


def one(seed: int, fault: str, looks: int, batch: int, policy: ReleasePolicy) -> tuple[int | None, bool]:
    """One drawn release: impressions of the candidate until it was refused (None: never), and whether an interval made for one look would
    ever have called its log loss another than the stable bundle's."""
    rng = np.random.default_rng(seed)
    how = FAULTS[fault]
    both = how if fault.startswith("equal") else {}
    periods, naive = [], False
    for look in range(1, looks + 1):
        periods.append(market.period(rng, 20, 5 * batch, candidate=how, stable=both))
        checks = {check.name: check for check in canary_checks(periods, 20, policy)}
        naive = naive or _naive(periods)
        if any(check.verdict is Verdict.FAIL for check in checks.values()):
            return look * batch, naive
    return None, naive


def _naive(periods: list[Period]) -> bool:
    """Is log loss shown to differ, by a 99 % interval made for one look?"""
    one_arm = [p.candidate.labelled for p in periods]
    other = [p.stable.labelled for p in periods]
    n1, n2 = sum(a.impressions for a in one_arm), sum(a.impressions for a in other)
    m1, m2 = sum(a.log_loss for a in one_arm) / n1, sum(a.log_loss for a in other) / n2
    v1 = sum(a.log_loss_squares for a in one_arm) / n1 - m1**2
    v2 = sum(a.log_loss_squares for a in other) / n2 - m2**2
    return abs(m1 - m2) > 2.576 * math.sqrt(v1 / n1 + v2 / n2)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--releases", type=int, default=1_000, help="drawn releases of equal bundles; faults get a tenth"
    )
    parser.add_argument("--looks", type=int, default=50, help="intervals, each judged")
    parser.add_argument(
        "--impressions",
        type=int,
        default=2_000,
        help="of the candidate in an interval; the stable bundle has four times as many",
    )
    asked = parser.parse_args()
    policy = ReleasePolicy()
    print(
        f"{asked.looks} looks, {asked.impressions:,} impressions each, click rate 5 %, policy as by default"
    )
    print(f"{'':32}{'refused':>16}{'95 % interval':>20}{'median impressions':>22}{'one-look interval':>20}")
    for fault in FAULTS:
        count = asked.releases if fault.startswith("equal") else max(asked.releases // 10, 20)
        found = [one(seed, fault, asked.looks, asked.impressions, policy) for seed in range(count)]
        refused = [at for at, _ in found if at is not None]
        k = len(refused)
        low = beta.ppf(0.025, k, count - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, count - k) if k < count else 1.0
        median = f"{np.median(refused):,.0f}" if refused else "-"
        naive = f"{sum(n for _, n in found) / count:.1%}" if fault.startswith("equal") else ""
        print(
            f"{fault:32}{f'{k} of {count}':>16}{f'{low:.2%} to {high:.2%}':>20}{median:>22}{naive:>20}",
            flush=True,
        )


if __name__ == "__main__":
    main()
