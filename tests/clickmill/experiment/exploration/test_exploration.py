"""Beliefs against their posterior by brute force, chances against draws, the budget by hand, and new ads on the market."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clickmill.data.world import Competition, WorldConfig, competition
from clickmill.errors import DataError
from clickmill.experiment.exploration import (
    Account,
    AdBeliefs,
    ExplorationBudget,
    ExplorationSettings,
    Explorer,
    exploring_score,
    slot_chances,
)
from clickmill.experiment.exploration.simulation import NewAds, simulate
from clickmill.experiment.off_policy import LoggedRows, Method, evaluate


@pytest.fixture(scope="module")
def market() -> Competition:
    return competition(
        WorldConfig(impressions=30_000, days=4, n_users=2000, n_ads=150, n_advertisers=20, seed=1)
    )


def test_beliefs_are_the_mode_and_curvature_of_the_posterior():
    # 40 impressions of one ad at two logits and two slots: the posterior on a grid.
    rng = np.random.default_rng(0)
    logit, x = rng.choice([-2.0, -1.0], 40), rng.choice([1.0, 0.5], 40)
    clicked = rng.random(40) < 0.3
    found = AdBeliefs.new(3, sd=0.8).after(np.full(40, 1), clicked, logit, x)
    u = np.linspace(-3, 3, 60_001)
    p = x[:, None] / (1 + np.exp(-(logit[:, None] + u)))
    density = np.where(clicked[:, None], np.log(p), np.log1p(-p)).sum(axis=0) - u**2 / (2 * 0.8**2)
    assert found.mean[1] == pytest.approx(u[density.argmax()], abs=1e-3)
    weight = np.exp(density - density.max())
    mean = (u * weight).sum() / weight.sum()
    # Laplace against the exact posterior: close at forty impressions, not equal.
    assert found.sd[1] == pytest.approx(np.sqrt(((u - mean) ** 2 * weight).sum() / weight.sum()), rel=0.1)
    assert (found.mean[[0, 2]] == 0).all()
    assert found.sd[[0, 2]] == pytest.approx(0.8)


@given(st.lists(st.tuples(st.booleans(), st.floats(-6, 2), st.floats(0.1, 1)), min_size=1, max_size=30))
def test_impressions_only_add_to_what_is_known_and_clicks_raise_it(rows):
    clicked, logit, x = (np.array(column) for column in zip(*rows, strict=True))
    ad = np.zeros(len(rows), int)
    start = AdBeliefs.new(1, 0.7)
    found = start.after(ad, clicked, logit, x)
    assert found.precision[0] > start.precision[0]
    assert start.after(ad, np.ones_like(clicked), logit, x).mean[0] >= found.mean[0] - 1e-4
    assert start.after(ad, np.zeros_like(clicked), logit, x).mean[0] <= found.mean[0] + 1e-4


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("explorer", list(Explorer))
def test_logged_chances_are_the_shares_of_the_draws(explorer, share):
    rng = np.random.default_rng(3)
    k, draws, slots = 5, 40_000, 3
    logit, mean = rng.normal(-3, 0.5, (1, k)), rng.normal(0, 0.3, (1, k))
    sd, bid = np.array([[0.7, 0.05, 0.4, 0.7, 0.7]]), np.array([[1.0, 1.2, 0.8, 1.0, 0.0]])
    settings = ExplorationSettings(explorer=explorer, width=1.0)
    found = slot_chances(logit, mean, sd, bid, settings, slots, share=share)[0]
    many = [np.repeat(a, draws, axis=0) for a in (logit, mean, sd, bid)]
    score = exploring_score(*many, settings, rng)
    plain = exploring_score(*many, ExplorationSettings(explorer=Explorer.GREEDY), rng)
    score = np.where(rng.random(draws)[:, None] < share, score, plain)
    order = np.argsort(-score, axis=1)[:, :slots]
    counted = np.stack([np.bincount(order[:, slot], minlength=k) for slot in range(slots)], axis=1) / draws
    # Three errors of 40,000 draws, and the quadrature.
    np.testing.assert_allclose(found, counted, atol=0.0075 + 0.006)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=0.01)
    assert (found[4] == 0).all()


def test_two_equal_ads_keep_their_order_at_the_mean():
    # Both at the mean (chance 1/4): the first leads; else the draws decide evenly: 1/4 + 1/2 x 3/4.
    same = np.zeros((1, 2))
    found = slot_chances(same, same, same + 0.5, same + 1.0, ExplorationSettings(width=1.0), 2)[0]
    np.testing.assert_allclose(found, [[0.625, 0.375], [0.375, 0.625]], atol=2e-3)


def test_the_share_of_explorers_follows_the_budget_by_hand():
    budget = ExplorationBudget(cost=0.01, first_share=0.2)
    account = budget.begin()
    assert account.share == 0.2
    # 1,000 earned, 4 given up by 20 of 100: a price of 0.2; room 0.01 x 2,000 - 4 = 16: 16 / (0.2 x 100) = 0.8.
    account = budget.after(account, earned=1000, given_up=4, explored=20, requests=100)
    assert account == Account(share=pytest.approx(0.8), earned=1000, given_up=4, explored=20)
    # Another 60 given up: above 1 % of what was earned, nobody explores.
    assert budget.after(account, earned=1000, given_up=60, explored=80, requests=100).share == 0
    assert ExplorationBudget(cost=0).begin().share == 0
    free = budget.after(budget.begin(), earned=10, given_up=0, explored=5, requests=9)
    assert free.share == 1.0
    with pytest.raises(DataError, match="5 of 4 requests explored cannot be"):
        budget.after(account, earned=1, given_up=0, explored=5, requests=4)


def test_new_ads_that_the_model_underrates_are_found_sooner_and_within_the_budget(market):
    budget = ExplorationBudget(cost=0.002)
    runs = {
        explorer: [
            simulate(market, ExplorationSettings(explorer=explorer, width=0.5), budget, seed=seed)
            for seed in range(6)
        ]
        for explorer in Explorer
    }
    regret = {explorer: np.array([run.relative_regret for run in found]) for explorer, found in runs.items()}
    better = regret[Explorer.GREEDY] - regret[Explorer.UCB]
    assert better.mean() - 2.6 * better.std(ddof=1) / np.sqrt(len(better)) > 0
    assert regret[Explorer.THOMPSON].mean() < regret[Explorer.GREEDY].mean()
    for run in (*runs[Explorer.UCB], *runs[Explorer.THOMPSON]):
        assert 0 < run.given_up <= 0.0022  # an hour may pass before the account answers
        assert run.share.max() > 0
    assert all(run.given_up == 0 for run in runs[Explorer.GREEDY])


def test_the_log_of_an_explorer_tells_what_greed_would_have_got(market):
    settings = ExplorationSettings(width=1.0)
    few = Competition(
        **{
            name: value[:1500] if len(value) == len(market) else value
            for name, value in ((name, getattr(market, name)) for name in market.__dataclass_fields__)
        }
    )
    log = simulate(
        few, settings, ExplorationBudget(cost=0.05, first_share=1.0), NewAds(model_bias=0.0), keep_log=True
    ).logged
    assert log is not None
    rows = LoggedRows.checked(log.clicked, log.propensity, log.greedy, cluster=log.request)
    found = evaluate(rows)
    assert found.diagnostics.mean_weight.low <= 1.005
    assert found.diagnostics.mean_weight.high >= 0.995
    estimate = found.estimates[Method.SNIPS]
    assert estimate.low <= log.greedy_truth <= estimate.high


def test_each_explorer_has_a_width_of_its_own():
    widths = {explorer: ExplorationSettings(explorer=explorer).width for explorer in Explorer}
    assert (widths[Explorer.THOMPSON], widths[Explorer.UCB]) == (0.5, 0.25)
    assert ExplorationSettings(explorer="ucb", width=2).width == 2
    with pytest.raises(ValidationError, match="Input should be 'greedy', 'thompson' or 'ucb'"):
        ExplorationSettings(explorer="boldly")


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="must be above 0, got 0"):
        AdBeliefs.new(2, 0.0)
    with pytest.raises(DataError, match="one value per impression each"):
        AdBeliefs.new(2, 1.0).after(np.array([0]), np.array([1, 0]), np.zeros(1), np.ones(1))
    with pytest.raises(DataError, match="examination must lie in"):
        AdBeliefs.new(2, 1.0).after(np.array([0]), np.array([1]), np.zeros(1), np.zeros(1))
    with pytest.raises(DataError, match="need one shape"):
        exploring_score(
            np.zeros((1, 2)),
            np.zeros((1, 2)),
            np.zeros((1, 2)),
            np.zeros((1, 3)),
            ExplorationSettings(),
            np.random.default_rng(0),
        )
