"""Each metric against scikit-learn, pandas, plain Python or hand-made numbers."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clickmill.errors import DataError, UndefinedMetric, UsageError
from clickmill.evaluation import (
    METRICS,
    Ranked,
    auc,
    calibration_ratio,
    check_rows,
    compare_with_truth,
    confusion_matrix,
    expected_calibration_error,
    gauc,
    lift,
    lift_at,
    log_loss,
    normalized_entropy,
    pctr_histogram,
    reliability_curve,
    roc_curve,
    wilson_interval,
)


@pytest.fixture(scope="module")
def market():
    """20,000 impressions at 5 %: labels, truth, an imperfect model with ties, weights, users."""
    rng = np.random.default_rng(7)
    n = 20_000
    z = rng.normal(-3.3, 1.0, n)
    truth = 1 / (1 + np.exp(-z))
    y = (rng.random(n) < truth).astype(int)
    p = np.round(1 / (1 + np.exp(-(0.8 * z + rng.normal(0, 0.5, n) - 0.3))), 3).clip(0.001, 0.999)
    return y, truth, p, rng.uniform(0.2, 3, n), rng.integers(0, 400, n)


@st.composite
def scored(draw, smallest=4, weights=False):
    """Rows with both classes; probabilities on a coarse grid so that ties are common."""
    n = draw(st.integers(smallest, 60))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    y[0], y[1] = 0, 1
    p = draw(hnp.arrays(np.int64, n, elements=st.integers(1, 99))) / 100
    if not weights:
        return y, p
    return y, p, draw(hnp.arrays(np.int64, n, elements=st.integers(1, 4))).astype(float)


@pytest.mark.parametrize("weighted", [False, True])
def test_auc_and_log_loss_are_those_of_scikit_learn(market, weighted):
    y, _, p, w, _ = market
    w = w if weighted else None
    assert auc(y, p, w) == pytest.approx(sklearn.metrics.roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert log_loss(y, p, w) == pytest.approx(sklearn.metrics.log_loss(y, p, sample_weight=w), rel=1e-12)


def test_log_loss_of_certain_mistakes_is_clipped_as_in_scikit_learn():
    y, p = [0, 1, 0], [1.0, 0.0, 0.5]
    assert log_loss(y, p) == pytest.approx(sklearn.metrics.log_loss(y, p), rel=1e-9)
    assert log_loss([1], [0.0]) == pytest.approx(36.0437, abs=1e-4)


@given(scored())
def test_auc_counts_pairs(rows):
    y, p = rows
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(p[y == 1], p[y == 0])]
    assert auc(y, p) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@given(scored())
def test_auc_does_not_change_under_increasing_maps_and_turns_over_under_decreasing_ones(rows):
    y, p = rows
    assert auc(y, p**3) == pytest.approx(auc(y, p), abs=1e-12)
    assert auc(y, 1 / (1 + np.exp(-5 * p))) == pytest.approx(auc(y, p), abs=1e-12)
    assert auc(y, 1 - p) == pytest.approx(1 - auc(y, p), abs=1e-12)


@given(scored(weights=True), st.sampled_from(sorted(METRICS)))
def test_a_weight_of_k_is_k_rows(rows, name):
    y, p, w = rows
    times = w.astype(int)
    weighted, repeated = (
        Ranked.of(check_rows(y, p, w)),
        Ranked.of(check_rows(y.repeat(times), p.repeat(times))),
    )
    metric = METRICS[name].of_ranked
    assert metric(weighted, weighted.weight) == pytest.approx(metric(repeated, repeated.weight), abs=1e-10)


@given(scored(weights=True), st.sampled_from(sorted(METRICS)), st.randoms(use_true_random=False))
def test_every_metric_is_in_range_blind_to_row_order_and_to_the_scale_of_weights(rows, name, random):
    y, p, w = rows
    order = list(range(len(y)))
    random.shuffle(order)
    metric = METRICS[name]
    a, b = Ranked.of(check_rows(y, p, w)), Ranked.of(check_rows(y[order], p[order], 10 * w[order]))
    value = metric.of_ranked(a, a.weight)
    assert metric.lowest <= value <= metric.highest
    assert metric.of_ranked(b, b.weight) == pytest.approx(value, abs=1e-10)


def test_the_register_computes_what_the_functions_compute(market):
    y, _, p, w, _ = market
    rows = Ranked.of(check_rows(y, p, w))
    expected = {
        "auc": auc(y, p, w),
        "log_loss": log_loss(y, p, w),
        "normalized_entropy": normalized_entropy(y, p, w),
        "ece_equal_mass": expected_calibration_error(y, p, w, strategy="equal_mass"),
        "ece_equal_width": expected_calibration_error(y, p, w, strategy="equal_width"),
        "calibration_ratio": calibration_ratio(y, p, w),
    }
    assert {name: m.of_ranked(rows, rows.weight) for name, m in METRICS.items()} == expected


@given(scored(weights=True))
def test_normalized_entropy_is_one_at_the_base_rate_and_nothing_constant_is_better(rows):
    y, _, w = rows
    rate = np.average(y, weights=w)
    assert normalized_entropy(y, np.full(len(y), rate), w) == pytest.approx(1)
    assert normalized_entropy(y, np.full(len(y), min(rate * 1.1, 0.999)), w) >= 1


def test_normalized_entropy_by_hand():
    # -(2 ln 0.9 + ln 0.8 + ln 0.6) / 4 over the entropy of 1/4
    loss = -(2 * math.log(0.9) + math.log(0.8) + math.log(0.6)) / 4
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert normalized_entropy([0, 0, 0, 1], [0.1, 0.1, 0.2, 0.6]) == pytest.approx(loss / entropy)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_ece_of_equal_mass_bins_is_that_of_pandas_qcut(market, bins):
    y, _, _, _, _ = market
    p = np.random.default_rng(1).permutation(np.linspace(0.001, 0.2, 19_995))  # no ties, 15 divides
    frame = pd.DataFrame({"y": y[:19_995], "p": p, "bin": pd.qcut(p, bins, labels=False)})
    gap = frame.groupby("bin").apply(lambda b: abs(b.p.mean() - b.y.mean()) * len(b), include_groups=False)
    assert expected_calibration_error(frame.y, p, bins=bins) == pytest.approx(gap.sum() / len(p), abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_ece_of_equal_width_bins_in_plain_python(market, weighted):
    y, _, p, w, _ = market
    w = w if weighted else np.ones(len(y))
    inside = ~np.isin(p, np.arange(1, 10) / 10)  # on an edge, int(p * 10) would depend on rounding
    y, p, w = y[inside], p[inside], w[inside]
    sums = {}
    for yi, pi, wi in zip(y, p, w, strict=True):
        row = sums.setdefault(int(pi * 10), [0.0, 0.0])
        row[0] += wi * pi
        row[1] += wi * yi
    expected = sum(abs(predicted - clicked) for predicted, clicked in sums.values()) / w.sum()
    assert len(sums) > 5
    assert expected_calibration_error(y, p, w, strategy="equal_width", bins=10) == pytest.approx(
        expected, abs=1e-12
    )


def test_equal_width_bins_hold_their_lower_edge():
    # 0.1 belongs to [0.1, 0.2): were it in [0, 0.1), the two rows would cancel to 0.
    assert expected_calibration_error([1, 0], [0.1, 0.05], strategy="equal_width", bins=10) == pytest.approx(
        (0.9 + 0.05) / 2
    )
    assert expected_calibration_error([1], [1.0], strategy="equal_width", bins=10) == 0


def test_equal_probabilities_never_part_in_equal_mass_bins():
    bins = reliability_curve([0, 1] * 10, [0.2] * 20, bins=4)
    assert [(b.n, b.clicks) for b in bins] == [(20, 10)]


def test_ece_knows_two_strategies():
    with pytest.raises(UsageError, match="strategy must be one of equal_mass, equal_width, got 'quantile'"):
        expected_calibration_error([0, 1], [0.1, 0.2], strategy="quantile")
    with pytest.raises(UsageError, match="bins must be at least 1, got 0"):
        expected_calibration_error([0, 1], [0.1, 0.2], bins=0)


def test_calibration_ratio_is_predicted_over_observed():
    assert calibration_ratio([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.9]) == pytest.approx(1.2)
    assert calibration_ratio([0, 1], [0.5, 0.5], [1, 3]) == pytest.approx(2 / 3)


def test_gauc_is_the_weighted_mean_of_scikit_learn_per_group(market):
    y, _, p, w, user = market
    for weight in (None, w):
        used = np.ones(len(y)) if weight is None else weight
        values, masses = [], []
        for one in np.unique(user):
            m = user == one
            if 0 < y[m].sum() < m.sum():
                values.append(sklearn.metrics.roc_auc_score(y[m], p[m], sample_weight=used[m]))
                masses.append(used[m].sum())
        result = gauc(y, p, user, weight)
        assert result.value == pytest.approx(np.average(values, weights=masses), abs=1e-10)
        assert result.coverage == pytest.approx(sum(masses) / used.sum())
        assert result.groups == len(values)


def test_gauc_ignores_what_distinguishes_users():
    # Users who click more score higher: AUC sees that, GAUC does not.
    user = np.repeat(np.arange(200), 50)
    rng = np.random.default_rng(3)
    rate = rng.uniform(0.02, 0.5, 200)[user]
    y = (rng.random(len(user)) < rate).astype(int)
    assert auc(y, rate) > 0.65
    assert gauc(y, rate, user).value == 0.5


def test_gauc_leaves_out_rows_without_an_id():
    some = gauc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.1], np.array(["a", "a", None, None], dtype=object))
    assert (some.value, some.coverage, some.groups) == (1.0, 0.5, 1)
    with pytest.raises(UndefinedMetric, match="GAUC needs a group"):
        gauc([0, 1], [0.1, 0.2], [float("nan"), float("nan")])
    with pytest.raises(DataError, match=r"group must be of shape \(3,\) like y, got \(2,\)"):
        gauc([0, 1, 0], [0.1, 0.2, 0.3], ["a", "b"])


def test_lift_by_hand():
    y = [1, 1, 0, 1, 0, 0, 0, 0]
    p = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    table = lift(y, p, steps=4)
    assert [r.cumulative_gain for r in table] == pytest.approx([2 / 3, 1, 1, 1])
    assert [r.cumulative_lift for r in table] == pytest.approx([8 / 3, 2, 4 / 3, 1])
    assert [r.click_rate for r in table] == pytest.approx([1, 0.5, 0, 0])
    assert [r.mean_pctr for r in table] == pytest.approx([0.85, 0.65, 0.45, 0.25])
    assert lift_at(y, p, 0.25) == pytest.approx(8 / 3)


@given(scored(), st.randoms(use_true_random=False))
def test_lift_of_equal_scores_is_one_whatever_the_row_order(rows, random):
    y, p = rows
    assert [r.lift for r in lift(y, np.full(len(y), 0.3), steps=7)] == pytest.approx([1.0] * 7)
    order = list(range(len(y)))
    random.shuffle(order)
    a, b = lift(y, p, steps=5), lift(y[order], p[order], steps=5)
    assert [r.cumulative_gain for r in a] == pytest.approx([r.cumulative_gain for r in b])


def test_reliability_bins_are_those_of_scikit_learn(market):
    y, _, _, _, _ = market
    p = np.random.default_rng(1).permutation(np.linspace(0.001, 0.2, 20_000))
    rate, predicted = sklearn.calibration.calibration_curve(y, p, n_bins=10, strategy="quantile")
    bins = reliability_curve(y, p, bins=10)
    assert [b.click_rate for b in bins] == pytest.approx(rate.tolist())
    assert [b.mean_pctr for b in bins] == pytest.approx(predicted.tolist())
    assert sum(b.n for b in bins) == 20_000
    assert sum(b.clicks for b in bins) == y.sum()


def test_wilson_interval_is_that_of_scipy():
    from scipy.stats import binomtest

    for clicks, n in [(0, 10), (3, 10), (10, 10), (37, 1200)]:
        expected = binomtest(clicks, n).proportion_ci(method="wilson")
        low, high = wilson_interval(np.array([clicks / n]), np.array([float(n)]))
        assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_roc_curve_is_that_of_scikit_learn_and_stays_under_its_limit(market):
    y, _, p, w, _ = market
    x, t, _ = sklearn.metrics.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
    full = roc_curve(y, p, w, points=100_000)
    assert full.false_positive_rate == pytest.approx(x.tolist(), abs=1e-12)
    assert full.true_positive_rate == pytest.approx(t.tolist(), abs=1e-12)
    thin = roc_curve(y, p, w, points=101)
    assert len(thin.threshold) <= 101
    assert (thin.false_positive_rate[0], thin.true_positive_rate[0]) == (0, 0)
    assert (thin.false_positive_rate[-1], thin.true_positive_rate[-1]) == (1, 1)
    area = np.trapezoid(thin.true_positive_rate, thin.false_positive_rate)
    assert area == pytest.approx(auc(y, p, w), abs=2e-3)


def test_confusion_matrix_is_that_of_scikit_learn(market):
    y, _, p, w, _ = market
    m = confusion_matrix(y, p, 0.05, w)
    expected = sklearn.metrics.confusion_matrix(y, p >= 0.05, sample_weight=w).ravel()
    assert (m.true_negatives, m.false_positives, m.false_negatives, m.true_positives) == pytest.approx(
        expected
    )


def test_the_truth_has_no_distance_from_itself_and_a_model_has_its_kl(market):
    y, truth, p, _, _ = market
    itself = compare_with_truth(y, truth, truth, resamples=20)
    assert (itself.kl_divergence, itself.mean_squared_error) == (0, 0)
    assert (itself.auc_gap.low, itself.auc_gap.high) == (0, 0)
    other = compare_with_truth(y, p, truth, resamples=20)
    kl = [t * math.log(t / q) + (1 - t) * math.log((1 - t) / (1 - q)) for t, q in zip(truth, p, strict=True)]
    assert other.kl_divergence == pytest.approx(sum(kl) / len(kl), rel=1e-9)
    assert other.mean_squared_error == pytest.approx(sklearn.metrics.mean_squared_error(truth, p))
    assert other.auc.value == pytest.approx(sklearn.metrics.roc_auc_score(y, truth))
    assert other.auc_gap.value == pytest.approx(
        sklearn.metrics.roc_auc_score(y, p) - sklearn.metrics.roc_auc_score(y, truth)
    )
    assert other.normalized_entropy_gap.low > 0


def test_the_histogram_holds_every_prediction(market):
    _, _, p, _, _ = market
    for predictions in (p, np.full(10, 0.02), np.zeros(5), np.ones(5)):
        histogram = pctr_histogram(predictions)
        assert sum(histogram.counts) == len(predictions)
        assert list(histogram.edges) == sorted(histogram.edges)


@pytest.mark.parametrize(
    ("y", "metric", "words"),
    [
        ([1, 1], auc, "AUC needs both clicks and non-clicks"),
        ([0, 0], auc, "AUC needs both clicks and non-clicks"),
        ([0, 0], normalized_entropy, "normalized entropy needs both"),
        ([1, 1], normalized_entropy, "normalized entropy needs both"),
        ([0, 0], calibration_ratio, "calibration ratio needs at least one click"),
        ([0, 0], lift, "lift needs at least one click"),
        ([0, 0], roc_curve, "ROC curve needs both"),
    ],
)
def test_a_metric_without_a_value_says_so(y, metric, words):
    with pytest.raises(UndefinedMetric, match=words):
        metric(y, [0.1, 0.2])


def test_weights_can_take_a_class_away():
    with pytest.raises(UndefinedMetric, match="AUC"):
        auc([0, 1], [0.1, 0.2], [1, 0])
    with pytest.raises(UndefinedMetric, match="GAUC needs a group"):
        gauc([0, 1], [0.1, 0.2], ["u", "u"], [1, 0])
    odd = np.full(10, 0.1) / 3
    with pytest.raises(UndefinedMetric, match="normalized entropy"):
        normalized_entropy(np.ones(10), np.full(10, 0.5), odd)


@pytest.mark.parametrize(
    ("y", "p", "w", "words"),
    [
        ([0, 2], [0.1, 0.2], None, r"y must be 0 or 1, got 2.0 in row 1 \(1 of 2 rows\)"),
        ([0, 1], [0.1, 1.2], None, "p must be between 0 and 1, got 1.2 in row 1"),
        ([0, 1], [0.1, float("nan")], None, "p must be finite, got nan in row 1"),
        ([0, float("inf")], [0.1, 0.2], None, "y must be finite, got inf in row 1"),
        ([0, 1], [0.1], None, r"p must be as long as y \(2 rows\), got 1 rows"),
        ([[0, 1]], [0.1, 0.2], None, r"y must be one-dimensional, got shape \(1, 2\)"),
        ([], [], None, "y must be at least one row long, got 0 rows"),
        (["a", "b"], [0.1, 0.2], None, "y must be numbers"),
        ([0, 1], [0.1, 0.2], [1, -1], "weight must be at least 0, got -1.0 in row 1"),
        ([0, 1], [0.1, 0.2], [0, 0], "weight must be above 0 in some row, got only zeros"),
        ([0, 1], [0.1, 0.2], [1], r"weight must be as long as y \(2 rows\), got 1 rows"),
    ],
)
def test_unusable_rows_are_refused_in_words(y, p, w, words):
    with pytest.raises(DataError, match=words):
        log_loss(y, p, w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int8])
def test_labels_and_predictions_of_any_dtype_are_taken(dtype):
    assert auc(np.array([0, 1, 0]).astype(dtype), np.array([0.1, 0.9, 0.5], dtype=np.float32)) == 1.0
