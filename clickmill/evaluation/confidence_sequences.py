"""Intervals that may be looked at any time: with probability 1 - alpha they hold the truth at every sample size at once.

A fixed-sample interval looked at every minute is wrong sooner or later: of 1,000 releases of equal bundles it would refuse
hundreds. These may decide the moment they exclude a value, and may be read on for as long as one likes.

- `bernoulli`: shares (errors, slow requests). Exact, from the Beta mixture of Bernoulli likelihood ratios and Ville's inequality
  (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Howard et al. 2021, section 4.1).
- `mean_radius`: means of anything with a variance (log loss, pCTR - click). Asymptotic: Waudby-Smith et al. (2024),
  "Time-uniform central limit theory and asymptotic confidence sequences", equation 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from clickmill.errors import UsageError


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


def mean_radius(variance: float, n: float, *, alpha: float, planned: float) -> float:
    """Half the width of the interval around the mean of n observations of this variance.

        sigma sqrt( (n + rho) / n^2 * ln( (n + rho) / (rho alpha^2) ) )

    `planned` is the sample size at which it is to be narrowest, compared with what it could be there; rho follows from it
    (Howard et al. 2021, equation 26). It must be chosen before looking. For the difference of two samples, n is the effective
    number of pairs, n1 n2 / (n1 + n2) summed over the periods, and the variance that of one effective pair.

    Raises UsageError unless alpha is in (0, 1) and variance, n and planned can be such.

    >>> round(mean_radius(1.0, 10_000, alpha=0.05, planned=10_000), 4)  # 1.96 / 100 if looked at once
    0.0304
    """
    _check_alpha(alpha)
    if not (variance >= 0 and n > 0 and planned > 0):
        raise UsageError(
            f"variance must be at least 0, n and planned above 0; got {variance}, {n} and {planned}"
        )
    rho = planned / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))
    return math.sqrt(variance * (n + rho) * math.log((n + rho) / (rho * alpha**2))) / n


def bernoulli(successes: int, n: int, *, alpha: float) -> Interval:
    """Interval of a share of which `successes` of n were seen.

    All p whose likelihood, beside that of the Beta(1/2, 1/2) mixture, is above alpha:

        B(1/2 + k, 1/2 + n - k) / B(1/2, 1/2)  <  p^k (1 - p)^(n - k) / alpha

    Raises UsageError unless 0 <= successes <= n and alpha is in (0, 1).

    >>> found = bernoulli(10, 1_000, alpha=0.01)
    >>> round(found.low, 4), round(found.high, 4)
    (0.002, 0.0286)
    >>> bernoulli(0, 0, alpha=0.01)
    Interval(low=0.0, high=1.0)
    """
    from scipy.optimize import brentq  # type: ignore[import-untyped]
    from scipy.special import betaln, xlog1py, xlogy  # type: ignore[import-untyped]

    _check_alpha(alpha)
    if not 0 <= successes <= n:
        raise UsageError(f"successes must be from 0 to n; got {successes} of {n}")
    if n == 0:
        return Interval(0.0, 1.0)
    k, misses = successes, n - successes
    mixture = betaln(0.5 + k, 0.5 + misses) - betaln(0.5, 0.5)

    def excess(p: float) -> float:
        return float(mixture - xlogy(k, p) - xlog1py(misses, -p) + math.log(alpha))

    # The mixture is at most the likelihood at k / n, so the excess is at most ln(alpha) < 0 there and grows to both sides.
    share = k / n
    low = 0.0 if k == 0 else brentq(excess, 1e-300, share)
    high = 1.0 if misses == 0 else brentq(excess, share, 1 - 1e-16)
    return Interval(float(low), float(high))


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise UsageError(f"alpha must be between 0 and 1; got {alpha}")


__all__ = ["Interval", "bernoulli", "mean_radius"]
