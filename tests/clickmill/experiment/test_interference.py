"""Shared budgets make an arm that spends faster look better than it is; budgets of its own tell the truth."""

import pytest

from clickmill.data.world import WorldConfig
from clickmill.errors import UsageError
from clickmill.experiment.interference import share_budgets

SMALL = WorldConfig(impressions=24_000, days=1, n_users=3_000, n_ads=200, seed=5)


def test_an_experiment_on_one_pot_overstates_and_one_on_two_pots_does_not():
    found = share_budgets(SMALL)
    assert found.shared > found.true + 0.1
    assert abs(found.split - found.true) < 0.5 * (found.shared - found.true)
    assert f"{found.shared:+.1%}" in found.words


def test_without_scarcity_there_is_nothing_to_take_from_each_other():
    found = share_budgets(SMALL, budget_share=1_000.0)
    # what is left is that two halves of the users are not alike
    assert found.shared == pytest.approx(found.true, rel=0.25)
    assert found.shared == pytest.approx(found.split)


def test_no_budget_at_all_is_refused():
    with pytest.raises(UsageError, match="budget_share must be above 0"):
        share_budgets(SMALL, budget_share=0.0)
