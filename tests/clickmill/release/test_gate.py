"""The gate on worlds where the right answer is known, and the laws it keeps on any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clickmill.errors import DataError
from clickmill.evaluation import auc, expected_calibration_error, normalized_entropy, paired_bootstrap
from clickmill.evaluation.paired_entropy import normalized_entropy_difference
from clickmill.release import Basis, Check, GateDecision, GatePolicy, Scores, Verdict, judge
from clickmill.release.gate_decision import overall
from clickmill.release.latency import check_latency, p99, p99_ratio

NO_LATENCY = GatePolicy(max_p99_ratio=None)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def market(n=30_000, seed=0):
    """Clicks at about 12 %, the true logits, and a model that is a little noisy."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2.4, 1.0, n)
    y = (rng.random(n) < sigmoid(z)).astype(int)
    return y, z, sigmoid(z + rng.normal(0, 0.5, n) - 0.1)


def latencies(milliseconds, n=2_000, seed=0):
    return milliseconds * np.random.default_rng(seed).lognormal(0, 0.2, n)


def verdicts(decision):
    return {check.name: check.verdict for check in decision.checks}


def test_a_better_challenger_is_promoted_and_the_record_says_by_how_much():
    y, z, noisy = market()
    decision = judge(Scores(noisy, latencies(3)), Scores(sigmoid(z), latencies(3, seed=1)), y)
    assert decision.promote
    assert decision.basis is Basis.IMPROVEMENT
    assert set(verdicts(decision)) == {
        "ne_floor",
        "ece_floor",
        "calibration_floor",
        "ne",
        "auc",
        "ece",
        "latency",
    }
    checks = {check.name: check for check in decision.checks}
    assert checks["ne"].value == pytest.approx(
        normalized_entropy(y, sigmoid(z)) - normalized_entropy(y, noisy)
    )
    assert checks["auc"].value == pytest.approx(auc(y, sigmoid(z)) - auc(y, noisy))
    assert checks["ece_floor"].value == pytest.approx(expected_calibration_error(y, sigmoid(z)))
    assert decision.summary.startswith("Promote: better than the champion. Normalized entropy changes by -0.")
    assert (decision.rows, decision.clicks) == (30_000, y.sum())


def test_a_worse_challenger_is_refused_with_the_numbers():
    y, z, noisy = market()
    decision = judge(Scores(sigmoid(z)), Scores(noisy), y, policy=NO_LATENCY)
    assert (decision.promote, decision.verdict, decision.basis) == (False, Verdict.FAIL, Basis.REFUSED)
    assert verdicts(decision)["ne"] is Verdict.FAIL
    assert "Refuse, the champion stays: " in decision.summary
    assert "may rise by 0.005" in decision.summary


def test_the_same_model_again_is_promoted_as_non_inferior_and_only_so():
    y, z, _ = market()
    same = Scores(sigmoid(z), latencies(3))
    decision = judge(same, same, y)
    assert decision.promote
    assert decision.basis is Basis.NON_INFERIORITY
    assert "no improvement is shown" in decision.summary
    strict = judge(same, same, y, policy=GatePolicy(require_improvement=True))
    assert not strict.promote
    assert verdicts(strict)["improvement"] is Verdict.FAIL
    assert [name for name, verdict in verdicts(strict).items() if verdict is not Verdict.PASS] == [
        "improvement"
    ]


def test_without_a_champion_the_floors_decide_alone():
    y, z, _ = market()
    decision = judge(None, Scores(sigmoid(z)), y)
    assert decision.promote
    assert decision.basis is Basis.FLOORS
    assert set(verdicts(decision)) == {"ne_floor", "ece_floor", "calibration_floor"}
    assert "no champion yet" in decision.summary
    useless = judge(None, Scores(np.full(len(y), y.mean())), y)
    assert not useless.promote
    assert verdicts(useless)["ne_floor"] is Verdict.UNKNOWN  # NE is 1 up to the noise of the rate
    assert useless.basis is Basis.REFUSED
    wrong = judge(None, Scores(np.full(len(y), 0.5)), y)
    assert set(verdicts(wrong).values()) == {Verdict.FAIL}
    assert "nothing is deployed" in wrong.summary


def test_over_prediction_fails_the_calibration_floor_where_ece_is_blind():
    rng = np.random.default_rng(1)
    truth = rng.beta(1, 99, 100_000)  # 1 %: 60 % too many clicks are an ECE of 0.006
    y = rng.random(100_000) < truth
    decision = judge(None, Scores(1.6 * truth), y)
    assert verdicts(decision) == {
        "ne_floor": Verdict.PASS,
        "ece_floor": Verdict.PASS,
        "calibration_floor": Verdict.FAIL,
    }


def test_few_clicks_are_unknown_and_never_promote():
    y, z, noisy = market(n=800)
    assert y.sum() < 200
    for champion in (None, Scores(noisy)):
        decision = judge(champion, Scores(sigmoid(z)), y, policy=NO_LATENCY)
        assert not decision.promote
        assert set(verdicts(decision).values()) == {Verdict.UNKNOWN}
        assert (
            f"The test rows hold {y.sum()} clicks, 200 needed to judge. Judge on more days"
            in decision.summary
        )
        assert all(check.value is None for check in decision.checks)


def test_one_class_is_unknown_not_an_error():
    decision = judge(None, Scores([0.1] * 10), [0] * 10)
    assert (decision.verdict, decision.promote) == (Verdict.UNKNOWN, False)
    assert "could not be judged" in decision.summary


def test_unmeasured_latency_is_unknown_and_slow_latency_fails():
    y, z, _ = market()
    p = sigmoid(z)
    silent = judge(Scores(p, latencies(3)), Scores(p), y)
    assert verdicts(silent)["latency"] is Verdict.UNKNOWN
    assert not silent.promote
    assert "No latency of the challenger was measured" in silent.summary
    few = judge(Scores(p, latencies(3)), Scores(p, latencies(3, n=100)), y)
    assert "100 latency samples of the challenger, 400 needed for a p99" in few.summary
    slow = judge(Scores(p, latencies(3)), Scores(p, latencies(6, seed=1)), y)
    assert verdicts(slow)["latency"] is Verdict.FAIL
    assert "may be at most 1.5" in slow.summary
    floor = judge(None, Scores(p, latencies(9)), y, policy=GatePolicy(max_p99_ms=10))
    assert verdicts(floor)["latency_floor"] is Verdict.FAIL


def test_a_slice_that_gets_worse_stops_a_model_that_is_better_overall():
    y, z, noisy = market(60_000)
    device = np.where(np.arange(60_000) % 10 == 0, "tablet", "phone")
    better = sigmoid(z)
    better[device == "tablet"] = sigmoid(z[device == "tablet"] + 1.2)
    policy = GatePolicy(max_p99_ratio=None, max_calibration_bias=None, ece_margin=None)
    decision = judge(Scores(noisy), Scores(better), y, slices={"device": device}, policy=policy)
    assert verdicts(decision)["ne"] is Verdict.PASS
    assert verdicts(decision)["slice:device=phone"] is Verdict.PASS
    assert verdicts(decision)["slice:device=tablet"] is Verdict.FAIL
    assert not decision.promote
    assert "slice:device=tablet: Normalized entropy changes by +0." in decision.summary


def test_slices_without_enough_clicks_have_no_guard_but_are_named():
    y, z, noisy = market()
    hour = np.where(np.arange(len(y)) < 500, "03", "15")
    decision = judge(Scores(noisy), Scores(sigmoid(z)), y, slices={"hour": hour}, policy=NO_LATENCY)
    assert "slice:hour=15" in verdicts(decision)
    assert decision.slices_unjudged == (f"hour=03 ({y[:500].sum()} clicks)",)


def test_guards_share_one_error_rate():
    # 200 harmless slices: at 95 % each some five would be shown worse than 0, together almost never.
    y, z, _ = market(40_000, seed=5)
    rng = np.random.default_rng(6)
    a, b = (sigmoid(z + rng.normal(0, 0.2, len(z))) for _ in range(2))
    policy = GatePolicy(max_p99_ratio=None, slice_ne_margin=0, slice_min_clicks=8, slice_top=200)
    decision = judge(Scores(a), Scores(b), y, slices={"ad": rng.integers(0, 200, len(y))}, policy=policy)
    guards = [check for check in decision.checks if check.name.startswith("slice:")]
    assert len(guards) == 200
    assert sum(check.verdict is Verdict.FAIL for check in guards) <= 1
    alone = [
        normalized_entropy_difference(y[:1000], a[:1000], b[:1000], level=level) for level in (0.95, 0.9995)
    ]
    assert alone[1].high - alone[1].low > 1.5 * (alone[0].high - alone[0].low)


def test_clusters_make_the_gate_more_careful():
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(150), 40)
    mood = rng.normal(0, 1, 150)[user]
    y = (rng.random(6_000) < sigmoid(mood - 1)).astype(int)
    champion, challenger = np.full(6_000, 0.3), sigmoid(0.1 * mood - 0.9)
    rows = judge(Scores(champion), Scores(challenger), y, policy=NO_LATENCY)
    users = judge(Scores(champion), Scores(challenger), y, cluster=user, policy=NO_LATENCY)
    width = [next(c.high - c.low for c in d.checks if c.name == "ne") for d in (rows, users)]
    assert width[1] > 1.5 * width[0]


def test_the_closed_form_difference_agrees_with_the_bootstrap():
    y, z, noisy = market(8_000)
    rng = np.random.default_rng(3)
    weight, user = rng.uniform(0.5, 2, 8_000), rng.integers(0, 900, 8_000)
    for cluster in (None, user):
        closed = normalized_entropy_difference(y, noisy, sigmoid(z), weight, cluster=cluster)
        drawn = paired_bootstrap(
            y, noisy, sigmoid(z), weight, metrics=["normalized_entropy"], cluster=cluster, resamples=2_000
        )["normalized_entropy"]
        assert closed.value == pytest.approx(drawn.value)
        half = (closed.high - closed.low) / 2
        assert (closed.low, closed.high) == pytest.approx((drawn.low, drawn.high), abs=0.12 * half)


def test_p99_is_the_99th_of_a_hundred_and_its_ratio_is_covered():
    assert p99(np.arange(1.0, 101.0)) == 99
    assert p99(np.arange(1.0, 1001.0)) == 990
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(150):
        before, after = (np.sort(rng.lognormal(0, 0.3, 1_000)) for _ in range(2))
        ratio = p99_ratio(before, 1.2 * after, level=0.9, resamples=400, seed=seed)
        hits += ratio.low <= 1.2 <= ratio.high
    assert 0.8 <= hits / 150 <= 0.98


def test_latency_without_meaning_is_refused():
    with pytest.raises(
        DataError, match=r"latency of champion must be finite and above 0 ms, got 0.0 in sample 1"
    ):
        check_latency([1, 0], "champion")
    with pytest.raises(DataError, match="must be a list of milliseconds"):
        check_latency([], "champion")


def test_predictions_of_another_length_are_refused():
    with pytest.raises(DataError, match=r"p must be as long as y \(2 rows\), got 3 rows"):
        judge(Scores([0.1, 0.2, 0.3]), Scores([0.1, 0.2]), [0, 1])


def test_the_decision_survives_json():
    y, z, noisy = market()
    decision = judge(Scores(noisy), Scores(sigmoid(z)), y, slices={"x": np.arange(len(y)) % 3})
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
    assert GatePolicy.model_validate_json(GatePolicy().model_dump_json()) == GatePolicy()


def test_every_field_of_the_policy_says_what_it_means():
    properties = GatePolicy.model_json_schema()["properties"]
    assert all(len(field["description"]) > 30 for field in properties.values())
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        GatePolicy(max_nce=1)


CHECKS = st.lists(
    st.builds(
        Check,
        name=st.sampled_from(["ne", "auc"]),
        verdict=st.sampled_from(Verdict),
        reason=st.just("because"),
    ),
    max_size=6,
)


@given(CHECKS, st.booleans(), st.sampled_from(Verdict), st.sampled_from(Basis))
def test_no_record_can_promote_with_a_check_that_did_not_pass(checks, promote, verdict, basis):
    fields = {
        "promote": promote,
        "verdict": verdict,
        "basis": basis,
        "summary": "",
        "checks": checks,
        "rows": 1,
        "clicks": 1,
    }
    try:
        decision = GateDecision(**fields)
    except ValidationError:
        honest = (
            verdict is overall(checks)
            and promote is (verdict is Verdict.PASS)
            and promote is not (basis is Basis.REFUSED)
        )
        assert not honest
        return
    assert decision.promote is (bool(checks) and all(check.verdict is Verdict.PASS for check in checks))


policies = st.builds(
    GatePolicy,
    ne_margin=st.floats(0, 0.05),
    auc_margin=st.none() | st.floats(0, 0.05),
    ece_margin=st.none() | st.floats(0, 0.05),
    max_p99_ratio=st.none() | st.floats(0.5, 2),
    max_ece=st.none() | st.floats(0.001, 0.1),
    max_calibration_bias=st.none() | st.floats(0.05, 0.5),
    require_improvement=st.booleans(),
    min_clicks=st.integers(1, 60),
    slice_min_clicks=st.integers(1, 30),
    resamples=st.just(40),
)


@settings(max_examples=60)
@given(policies, st.integers(0, 10_000), st.integers(10, 400), st.booleans(), st.booleans())
def test_only_unanimous_checks_promote_whatever_the_policy(policy, seed, n, has_champion, has_latency):
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1, n)
    y = rng.random(n) < sigmoid(z)

    def scores():
        p = sigmoid(z + rng.normal(0, rng.uniform(0, 1), n))
        return Scores(p, rng.lognormal(1, 0.3, 450) if has_latency else None)

    decision = judge(
        scores() if has_champion else None,
        scores(),
        y,
        slices={"s": rng.integers(0, 4, n)},
        policy=policy,
        seed=seed,
    )
    found = set(verdicts(decision).values())
    assert decision.promote is (found == {Verdict.PASS})
    if has_champion and policy.max_p99_ratio is not None and not has_latency:
        assert not decision.promote
    if not has_champion:
        assert all(name.endswith("_floor") for name in verdicts(decision))
    assert decision.summary.startswith("Promote" if decision.promote else "Refuse")


@settings(max_examples=25)
@given(policies, st.integers(0, 10_000))
def test_identical_models_never_promote_by_improvement(policy, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 1, 500)
    y = rng.random(500) < sigmoid(z)
    same = Scores(sigmoid(z), rng.lognormal(1, 0.3, 450))
    decision = judge(same, same, y, policy=policy, seed=seed)
    assert decision.basis in (
        {Basis.REFUSED} if policy.require_improvement else {Basis.NON_INFERIORITY, Basis.REFUSED}
    )
    assert judge(same, same, y, policy=policy, seed=seed) == decision
