"""The rows that the bench of sequences makes, by hand: who is trained on what, and that nothing of the test is in a history before it."""

import numpy as np
import sequences

PEOPLE = sequences.Sequences(
    user=np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]),
    item=np.array([3, 1, 4, 2, 5, 9, 2, 6, 5]),
    attributes={"first": np.array([0, 11, 12, 13, 14, 15, 16, 17, 18, 19])},
)


def _of(user, label):
    rows = sequences.rows(PEOPLE).to_pylist()
    return [row for row in rows if row["user"] == user and row["label"] == label]


def test_the_last_item_is_the_test_the_one_before_validation_and_the_first_only_history():
    days = {name: day + 1 for name, day in sequences.DAYS.items()}  # of January 1970
    found = [(row["event_time"].day, row["history_item"], row["item"]) for row in _of(1, 1)]
    assert found == [
        (days["train"], [9], 2),
        (days["validation"], [9, 2], 6),
        (days["test"], [9, 2, 6], 5),
    ]
    # every tenth user's second-to-last is for calibration
    assert [row["event_time"].day for row in _of(0, 1)] == [
        days["train"], days["train"], days["calibration"], days["test"],
    ]  # fmt: skip


def test_each_positive_has_one_negative_of_the_same_history_that_the_user_never_touched():
    for user, touched in ((0, {3, 1, 4, 2, 5}), (1, {9, 2, 6, 5})):
        positives, negatives = _of(user, 1), _of(user, 0)
        assert len(positives) == len(negatives)
        for positive, negative in zip(positives, negatives, strict=True):
            assert negative["history_item"] == positive["history_item"]
            assert negative["event_time"] == positive["event_time"]
            assert negative["item"] in {3, 1, 4, 2, 5, 9, 6} - touched


def test_attributes_go_with_their_item():
    for row in sequences.rows(PEOPLE).to_pylist():
        assert row["first"] == 10 + row["item"]
        assert row["history_first"] == [10 + item for item in row["history_item"]]


def test_only_the_latest_of_a_long_history_are_kept():
    long = sequences.Sequences(np.zeros(30, np.int64), np.arange(1, 31), {})
    rows = sequences.rows(
        sequences.Sequences(np.append(long.user, [1, 1]), np.append(long.item, [31, 32]), {})
    ).to_pylist()
    last = next(row for row in rows if row["item"] == 30 and row["label"] == 1)
    assert last["history_item"] == list(range(10, 30))


def test_negatives_are_uniform_over_what_is_left():
    user, item = np.array([0, 0, 1]), np.array([1, 2, 3])
    catalogue = np.array([4, 5, 6])
    drawn = sequences.never_touched(
        np.append(user, [2, 2, 2]),
        np.append(item, catalogue),
        np.zeros(40_000, np.int64),
        np.random.default_rng(0),
    )
    counts = np.bincount(drawn, minlength=7)
    assert set(np.flatnonzero(counts)) == {3, 4, 5, 6}
    np.testing.assert_allclose(counts[3:] / 40_000, 0.25, atol=0.01)  # four standard errors
