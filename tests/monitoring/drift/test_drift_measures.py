"""Distances by hand, and as scipy computes them from the raw values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitoring.drift.cells import learn_numbers
from monitoring.drift.measures import (
    Measure,
    jensen_shannon,
    kolmogorov_smirnov,
    most_variance,
    psi,
    wasserstein,
)

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(lambda c: sum(c) > 0)


def test_psi_of_two_cells_by_hand():
    p, q = (100.5 / 401, 300.5 / 401), (200.5 / 401, 200.5 / 401)
    by_hand = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi(np.array([100, 300]), np.array([200, 200])) == pytest.approx(by_hand)


@given(counts, st.randoms())
def test_jensen_shannon_is_scipys(reference, random):
    window = [random.randint(0, 50) for _ in reference]
    window[0] += 1
    assert jensen_shannon(np.array(reference), np.array(window)) == pytest.approx(
        jensenshannon(reference, window), abs=1e-7
    )


@given(counts)
def test_a_distribution_is_no_distance_from_itself(reference):
    reference = np.array(reference)
    assert psi(reference, 7 * reference) == pytest.approx(0, abs=0.5)
    assert jensen_shannon(reference, 7 * reference) == pytest.approx(0, abs=1e-7)
    assert kolmogorov_smirnov(reference, 7 * reference)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("moved", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "integers"])
def test_binned_distances_are_those_of_the_raw_values(kind, moved):
    rng = np.random.default_rng(3)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "lognormal": lambda n: rng.lognormal(size=n),
        "integers": lambda n: rng.poisson(3, n).astype(float),
    }[kind]
    before, now = draw(20_000), draw(30_000) + moved
    cells = learn_numbers(before, 200)
    (c0, s0), (c1, s1) = cells.tally(before), cells.tally(now)
    means = s0 / np.maximum(c0, 1), s1 / np.maximum(c1, 1)
    found = wasserstein(c0, c1, *means, float(np.std(before)))
    assert found == pytest.approx(
        stats.wasserstein_distance(before, now) / np.std(before), abs=0.01, rel=0.02
    )
    gap, p = kolmogorov_smirnov(c0, c1)
    exact = stats.ks_2samp(before, now)
    assert exact.statistic - 0.006 <= gap <= exact.statistic + 1e-12
    assert p == pytest.approx(exact.pvalue, abs=0.25)


def test_a_constant_that_moves_is_seen():
    cells = learn_numbers(np.full(1000, 5.0), 200)
    (c0, s0), (c1, s1) = cells.tally(np.full(1000, 5.0)), cells.tally(np.full(1000, 6.0))
    assert wasserstein(c0, c1, s0 / np.maximum(c0, 1), s1 / np.maximum(c1, 1), 0.0) == pytest.approx(1000)


@pytest.mark.parametrize("measure", [Measure.PSI, Measure.JENSEN_SHANNON, Measure.WASSERSTEIN])
def test_what_chance_gives_is_what_two_samples_give(measure):
    rng = np.random.default_rng(0)
    n, m, cells = 1_000, 4_000, 12
    found = []
    for _ in range(80):
        one, two = rng.normal(size=m), rng.normal(size=n)
        edges = stats.norm.ppf(np.arange(1, cells) / cells)
        a, b = (np.bincount(np.searchsorted(edges, x), minlength=cells) for x in (one, two))
        exact = {
            Measure.PSI: lambda a=a, b=b: psi(a, b),
            Measure.JENSEN_SHANNON: lambda a=a, b=b: jensen_shannon(a, b),
            Measure.WASSERSTEIN: lambda x=one, y=two: stats.wasserstein_distance(x, y),
        }[measure]
        found.append(exact())
    found_variance = most_variance(measure, cells, float(np.mean(found)))
    power = 1 if measure is Measure.PSI else 0.5  # the others go with the root of the variance
    assert (found_variance / (1 / n + 1 / m)) ** power == pytest.approx(1, rel=0.25)
