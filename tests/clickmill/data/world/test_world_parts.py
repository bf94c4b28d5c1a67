"""The parts of the market one by one, against plain Python."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from clickmill.data.world import Auction, ClickDelay, DelayComponent, LoggingPolicy, WorldConfig, generate
from clickmill.data.world.clicks import ClickEvents, ClickQueue, delays_us
from clickmill.data.world.journey import Journey
from clickmill.data.world.policy import NoisyRevenuePolicy, allocate
from clickmill.data.world.population import draw_rows, populate
from clickmill.data.world.preference import Dial, Preference, Requests
from clickmill.data.world.traffic import arrive, candidates, quotas
from clickmill.data.world.tuning import expected_auc, fit_dial
from clickmill.data.world.vocabulary import CATEGORIES

TINY = WorldConfig(impressions=1_500, days=1, n_users=60, n_ads=60, n_advertisers=6, n_sites=5, seed=2)


def requests_of(user, slots):
    n = len(user)
    zeros = np.zeros(n, dtype=np.int64)
    return Requests(zeros, np.asarray(user), zeros, zeros, zeros, np.asarray(slots))


@given(impressions=st.integers(1, 10**7), days=st.integers(1, 30), hour=st.integers(0, 23))
def test_hourly_quotas_add_up_and_nights_are_quieter(impressions, days, hour):
    start = datetime(2026, 1, 5, hour, tzinfo=timezone.utc)  # noqa: UP017
    config = WorldConfig(impressions=impressions, days=days, start=start)
    quota = quotas(config)
    assert quota.sum() == impressions
    assert (quota >= 0).all()
    assert quota[(20 - hour) % 24] >= quota[(3 - hour) % 24]


@settings(max_examples=30)
@given(quota=st.integers(0, 400), seed=st.integers(0, 2**32))
def test_an_hour_has_exactly_its_quota_of_slots_in_the_order_of_time(quota, seed):
    population = populate(TINY)
    requests = arrive(TINY, population, 5, quota, np.random.default_rng(seed))
    assert requests.slots.sum() == quota
    assert (requests.slots >= 1).all()
    assert (requests.slots <= population.sites.slots[requests.site]).all()
    assert (np.diff(requests.time_us) >= 0).all()
    start = TINY.start.timestamp() * 1e6 + 5 * 3.6e9
    assert ((requests.time_us >= start) & (requests.time_us < start + 3.6e9)).all()
    assert (population.users.arrives_h[requests.user] <= 5).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), zipf=st.floats(0, 3), hour=st.integers(0, 23))
def test_candidates_run_already_and_half_of_them_are_distinct(seed, zipf, hour):
    config = TINY.model_copy(update={"ad_zipf": zipf})
    population = populate(config)
    ad = candidates(config, population, hour, 50, np.random.default_rng(seed))
    assert (population.ads.starts_h[ad] <= hour).all()
    assert min(len(set(row)) for row in ad.tolist()) >= config.policy.candidates / 2


@settings(max_examples=50)
@given(st.data())
def test_slots_go_to_the_highest_scores_without_repeats(data):
    n, k = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 6))
    ad = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n * k, max_size=n * k)), dtype=int).reshape(
        n, k
    )
    score = np.array(data.draw(st.permutations(range(n * k))), dtype=float).reshape(n, k)
    slots = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    auction = Auction(requests_of(np.arange(n), np.array(slots, dtype=int)), ad, np.ones((n, k)), score)
    request, candidate, position = allocate(auction, score)
    expected = []
    for row in range(n):
        first = {a: ad[row].tolist().index(a) for a in ad[row].tolist()}  # the leftmost of equal ads competes
        ranked = sorted(first.values(), key=lambda c: -score[row, c])
        expected += [(row, c, place + 1) for place, c in enumerate(ranked[: slots[row]])]
    assert list(zip(request.tolist(), candidate.tolist(), position.tolist(), strict=True)) == expected


def test_a_policy_that_returns_nonsense_is_told_so():
    auction = Auction(requests_of([0], [1]), np.array([[1, 2]]), np.ones((1, 2)), np.zeros((1, 2)))
    with pytest.raises(
        ValueError, match=r"finite scores of shape \(1, 2\). Got shape \(1, 2\), 1 of them not finite"
    ):
        allocate(auction, np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\). Got shape \(2,\)"):
        allocate(auction, np.array([1.0, 2.0]))


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 59)), max_size=12), max_size=5))
def test_histories_keep_the_latest_clicks_in_their_order(hours):
    config = TINY.model_copy(update={"history_length": 3})
    journey, plain = Journey(config, populate(config)), {user: [] for user in range(5)}
    for clicks in hours:
        journey.record_clicks(
            np.array([u for u, _ in clicks], dtype=int), np.array([a for _, a in clicks], dtype=int)
        )
        for user, ad in clicks:
            plain[user].append(ad)
    view = journey.view(np.arange(5))
    assert [[ad for ad in row if ad >= 0] for row in view.ads.tolist()] == [
        plain[user][-3:] for user in range(5)
    ]
    assert view.lengths().tolist() == [len(plain[user][-3:]) for user in range(5)]


def test_recent_clicks_weigh_more_and_an_empty_history_weighs_nothing():
    population = populate(TINY)
    journey, category = Journey(TINY, population), population.ads.category
    decay = TINY.effects.history_decay
    old, new = 0, int(np.flatnonzero(category != category[0])[0])
    journey.record_clicks(np.array([7, 7]), np.array([old, new]))
    view = journey.view(np.array([7, 8, 7]))
    assert view.categories[0, category[new]] == pytest.approx(1 - decay)
    assert view.categories[0, category[old]] == pytest.approx((1 - decay) * decay)
    assert view.categories[1].sum() == 0
    assert view.last_category.tolist() == [category[new], len(CATEGORIES), category[new]]
    assert view.has_clicked(np.array([[old, new, 5], [old, new, 5], [5, 5, new]])).tolist() == [
        [True, True, False], [False, False, False], [False, False, True]]  # fmt: skip


def test_the_order_of_a_history_changes_the_click_probability():
    population = populate(TINY)
    preference, category = Preference(TINY, population, Dial()), population.ads.category
    a, b = 0, int(np.flatnonzero(category != category[0])[0])
    logits = []
    for order in ((a, b), (b, a)):
        journey = Journey(TINY, population)
        journey.record_clicks(np.array([3, 3]), np.array(order))
        requests = requests_of([3], [1])
        logits.append(preference.logit(requests, np.array([[a, b]]), journey, journey.view(requests.user))[0])
    assert logits[1][0] > logits[0][0] + 0.1  # a clicked last: a attracts more ...
    assert logits[0][1] > logits[1][1] + 0.1  # ... and b less


def test_repeated_exposure_tires_and_the_ad_clicked_before_is_not_needed_again():
    population = populate(TINY)
    preference = Preference(TINY, population, Dial(scale=1.0))
    requests, ad = requests_of([3], [1]), np.array([[0]])
    fresh, tired = Journey(TINY, population), Journey(TINY, population)
    tired.record_impressions(np.full(9, 3), np.full(9, population.ads.advertiser[0]))
    tired.activity[:] = 0  # only the exposures to this advertiser differ
    loss = preference.logit(requests, ad, fresh, fresh.view(np.array([3]))) - preference.logit(
        requests, ad, tired, tired.view(np.array([3]))
    )
    assert loss.item() == pytest.approx(TINY.effects.fatigue * np.log(10), rel=1e-5)
    tired.midnight()
    assert tired.exposures[3, population.ads.advertiser[0]] == 4.5


def test_the_click_queue_hands_out_what_is_due_in_the_order_of_time():
    def events(pairs):
        ids, times = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
        return ClickEvents(ids, times, ids, ids, np.ones(len(ids), dtype=bool))

    queue = ClickQueue()
    queue.push(events([(1, 50), (2, 10), (3, 30)]))
    assert queue.pop(31).impression_id.tolist() == [2, 3]
    queue.push(events([(5, 40), (4, 40)]))
    assert queue.pop(50).impression_id.tolist() == [4, 5]
    assert len(queue) == 1
    assert queue.pop(51).impression_id.tolist() == [1]


def test_delays_have_the_medians_of_their_components():
    parts = (
        DelayComponent(share=0.75, median_s=10, sigma=0.5),
        DelayComponent(share=0.25, median_s=1e4, sigma=0.5),
    )
    delay = delays_us(40_000, ClickDelay(components=parts, max_s=20_000), np.random.default_rng(0)) / 1e6
    assert (delay > 300).mean() == pytest.approx(0.25, abs=0.01)
    assert np.median(delay[delay < 300]) == pytest.approx(10, rel=0.03)
    assert np.median(delay[delay > 300]) == pytest.approx(1e4, rel=0.03)
    assert delay.max() == 20_000


def test_draws_follow_their_row():
    table = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    rows = np.repeat([0, 1], 30_000)
    drawn = draw_rows(np.cumsum(table, axis=1), rows, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn[:30_000]) / 30_000, table[0], atol=0.012)
    assert set(drawn[30_000:]) == {1}


def test_the_expected_auc_is_the_mean_auc_of_many_draws():
    rng = np.random.default_rng(1)
    pctr = rng.beta(1, 6, 400)
    draws = [roc_auc_score(rng.random(400) < pctr, pctr) for _ in range(300)]
    assert expected_auc(pctr) == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / np.sqrt(300))


def test_the_dial_meets_both_targets_or_says_why_not():
    rng = np.random.default_rng(0)
    effects, looks = rng.normal(size=20_000), rng.choice([1.0, 0.5], 20_000)
    dial = fit_dial(effects, looks, TINY)
    pctr = looks / (1 + np.exp(-(dial.scale * effects + dial.intercept)))
    assert pctr.mean() == pytest.approx(TINY.target_ctr, rel=1e-3)
    assert expected_auc(pctr) == pytest.approx(0.832, abs=1e-3)
    with pytest.raises(ValueError, match=r"target_auc=0.832 cannot be reached.*allow 0.586 to 0.586"):
        fit_dial(np.zeros(20_000), looks, TINY)
    with pytest.raises(ValueError, match=r"users examine only 0.010 of the slots. Lower target_ctr"):
        fit_dial(effects, np.full(20_000, 0.01), TINY)


def test_the_chances_of_the_slots_are_those_of_drawing_the_noise_again():
    rng = np.random.default_rng(0)
    n, k, draws = 3, 12, 40_000
    ad = np.stack([rng.permutation(40)[:k] for _ in range(n)])
    ad[0, 5] = ad[0, 2]  # an ad that comes twice is shown at most once
    auction = Auction(
        requests_of(np.zeros(n, np.int64), [3, 5, 4]), ad, rng.lognormal(0, 0.7, (n, k)), rng.normal(-3, 1.2, (n, k))
    )  # fmt: skip
    policy = NoisyRevenuePolicy(LoggingPolicy(candidates=k))
    request, candidate = np.divmod(np.arange(n * k), k)
    counts = np.zeros((n * k, 5))
    many = Auction(
        requests_of(np.zeros(n * draws, np.int64), np.tile(auction.requests.slots, draws)),
        np.tile(ad, (draws, 1)),
        np.tile(auction.bid, (draws, 1)),
        np.tile(auction.logit, (draws, 1)),
    )
    row, shown, position = allocate(many, policy.score(many, rng))
    np.add.at(counts, ((row % n) * k + shown, position - 1), 1 / draws)
    chances = policy.slot_chances(auction, request, candidate)
    other = np.arange(n * k) != 5  # the repeat is no candidate
    assert chances.shape == (n * k, 5)
    error = np.sqrt(np.maximum(counts * (1 - counts), 1e-4) / draws)
    assert (np.abs(chances - counts)[other] < 5 * error[other]).all()
    # each slot holds one ad
    by_request = chances.reshape(n, k, 5).copy()
    by_request[0, 5] = 0
    np.testing.assert_allclose(by_request.sum(axis=1), np.arange(5) < np.array([[3], [5], [4]]), atol=2e-3)


class BidPolicy:
    def score(self, auction: Auction, rng: np.random.Generator) -> np.ndarray:
        return np.log(auction.bid)


def test_two_policies_meet_the_same_visits():
    ours, theirs = (
        next(iter(generate(TINY, policy))).impressions.to_pandas().drop_duplicates("request_id")
        for policy in (None, BidPolicy())
    )
    for column in ("event_time", "user_id", "site_id", "page_category", "connection"):
        assert ours[column].tolist() == theirs[column].tolist()
    # Ours knows the chances of its noise; a policy without noise to tell of logs none.
    assert ours["slot_chances"].notna().all()
    assert theirs["slot_chances"].isna().all()


def test_a_shift_changes_tastes_on_its_day_and_not_before():
    config = TINY.model_copy(update={"days": 2, "impressions": 3_000, "target_auc": None})
    plain, shifted = (list(generate(c)) for c in (config, config.model_copy(update={"shift_day": 1.0})))
    # The intercept is fitted over the whole span, so it differs; the preferences behind it do not before the shift.
    log_odds = [
        [np.log(b.truth["relevance"].to_numpy() / (1 - b.truth["relevance"].to_numpy())) for b in world[:48]]
        for world in (plain, shifted)
    ]
    first = log_odds[0][0] - log_odds[1][0]
    np.testing.assert_allclose(first, first[0], atol=1e-9)
    later = log_odds[0][24] - log_odds[1][24]
    assert np.std(later) > 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slots_min": 5, "slots_max": 3}, r"slots_min \(5\) must not exceed slots_max \(3\)"),
        ({"examination": (1.0, 0.5)}, "a probability for each of the slots_max=5 positions. Got 2 instead"),
        ({"examination": (1.0, 0.9, 0.8, 0.7, 0.0)}, r"must be in \(0, 1\]"),
        ({"policy": LoggingPolicy(candidates=6)}, "at least twice slots_max=5.*Got 6 instead"),
        ({"n_ads": 20}, "at least twice policy.candidates=12.*Got n_ads=20"),
        ({"n_users": 10_000_000}, "must not exceed 200,000,000.*lower one of them"),
        (
            {"start": datetime(2026, 1, 1, 0, 30, tzinfo=UTC)},
            "on the full hour. Got 2026-01-01T00:30",
        ),
        ({"start": datetime(2026, 1, 1)}, "timezone"),
        ({"imprssions": 5}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(ValidationError, match=words):
        WorldConfig(**settings)


def test_delay_shares_must_add_up():
    with pytest.raises(ValidationError, match=r"must add up to 1\. Got 0\.5 instead"):
        ClickDelay(components=(DelayComponent(share=0.5, median_s=1, sigma=1),))


def test_a_start_in_another_time_zone_is_kept_in_utc():
    start = datetime(2026, 1, 5, 2, tzinfo=timezone(timedelta(hours=2)))
    assert WorldConfig(start=start).start.isoformat() == "2026-01-05T00:00:00+00:00"


def test_every_setting_says_what_it_means():
    for model in (
        WorldConfig,
        LoggingPolicy,
        ClickDelay,
        DelayComponent,
        type(TINY.effects),
        type(TINY.dirt),
    ):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
