"""When a run evaluates, slows down and stops: histories by hand, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.training import TrainingConfig, schedule

entropies = st.lists(st.floats(0.5, 1.5), max_size=30)


@pytest.mark.parametrize(
    ("steps", "per_epoch", "after"),
    [
        (47, 1, (47,)),
        (100, 4, (25, 50, 75, 100)),
        (47, 3, (15, 31, 47)),
        (3, 8, (1, 2, 3)),  # fewer steps than evaluations: after each
        (1, 1, (1,)),
    ],
)
def test_evaluations_are_spread_over_the_epoch_and_end_with_it(steps, per_epoch, after):
    assert schedule.evaluation_steps(steps, per_epoch) == after


@given(st.integers(1, 10_000), st.integers(1, 1000))
def test_evaluations_are_as_many_as_wanted_and_as_even_as_steps_allow(steps, per_epoch):
    after = schedule.evaluation_steps(steps, per_epoch)
    gaps = [b - a for a, b in zip((0, *after), after, strict=False)]
    assert after[-1] == steps
    assert len(after) == min(steps, per_epoch)
    assert max(gaps) - min(gaps) <= 1


def test_the_rate_falls_on_each_plateau_and_not_below_its_floor():
    config = TrainingConfig(rate_decay=0.1, decay_patience=1, least_rate=0.005)
    history = [0.9, 0.8, 0.81, 0.79, 0.80, 0.79, 0.85, 0.84, 0.7, 0.7, 0.7, 0.7, 0.7]
    #                better: 1      better, then two that are not: 0.1, two more: 0.01; better; twice two that are not
    expected = [1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.005, 0.005, 0.005]
    rates = [schedule.rate(history[: i + 1], config) for i in range(len(history))]
    assert rates == pytest.approx(expected)


def test_without_decay_and_before_any_evaluation_the_rate_is_one():
    assert schedule.rate([0.8, 0.9, 1.0, 1.1], TrainingConfig(rate_decay=1.0)) == 1
    assert schedule.rate([], TrainingConfig(rate_decay=0.1)) == 1


def test_a_run_ends_one_evaluation_after_its_patience():
    config = TrainingConfig(patience=2)
    assert not schedule.finished([], config)
    assert not schedule.finished(
        [0.8, 0.9, 0.8], config
    )  # an equal is not better, and the earlier one counts
    assert schedule.finished([0.8, 0.9, 0.8, 0.85], config)
    assert not schedule.finished([0.8, 0.9, 0.85, 0.7], config)
    assert schedule.best([0.9, 0.8, 0.8]) == 1


@given(entropies, st.floats(0.1, 0.9), st.integers(0, 4), st.integers(0, 4))
def test_the_rate_never_rises_and_moves_only_after_an_evaluation_that_is_not_the_best(
    history, decay, decay_patience, patience
):
    config = TrainingConfig(rate_decay=decay, decay_patience=decay_patience, patience=patience)
    rates = [schedule.rate(history[:i], config) for i in range(len(history) + 1)]
    for i, ne in enumerate(history):
        assert rates[i + 1] <= rates[i]
        if ne < min(history[:i], default=float("inf")):
            assert rates[i + 1] == rates[i]
            assert not schedule.finished(history[: i + 1], config)
