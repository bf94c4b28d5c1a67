"""Users stay with their bundle, shares are kept, and a growing canary only draws users to itself."""

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from serving.router import choose

USERS = [f"user {n}" for n in range(20_000)]


def shares(candidate, percent):
    return {candidate: percent, "stable": 100 - percent}


def test_shares_are_kept():
    for percent in (1, 5, 25, 50):
        drawn = sum(choose(shares("new", percent), user) == "new" for user in USERS)
        low, high = binom.interval(0.9999, len(USERS), percent / 100)
        assert low <= drawn <= high


@given(user=st.text(max_size=40), less=st.integers(1, 98), more=st.integers(1, 98))
def test_who_has_the_canary_keeps_it_while_it_grows(user, less, more):
    less, more = sorted((less, more))
    if choose(shares("new", less), user) == "new":
        assert choose(shares("new", more), user) == "new"


def test_another_candidate_draws_other_users():
    both = sum(
        choose(shares("one", 50), user) == "one" and choose(shares("two", 50), user) == "two"
        for user in USERS
    )
    low, high = binom.interval(0.9999, len(USERS), 0.25)
    # A user who stays with `stable` against one candidate is likelier to stay against another, so not a quarter exactly.
    assert low * 0.9 <= both <= high * 1.4


def test_the_order_in_which_bundles_are_named_does_not_matter():
    for user in USERS[:200]:
        assert choose({"a": 30, "b": 70}, user) == choose({"b": 70, "a": 30}, user)
