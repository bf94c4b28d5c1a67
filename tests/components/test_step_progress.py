"""Progress across the border of a step's process."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from components.progress import PREFIX, PlainProgress, ProgressLines, replay


class Bar:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.done = 0

    def start(self, task: str, total: int | None, unit: str) -> None:
        self.calls.append(("start", task, total, unit))

    def advance(self, n: int = 1, **figures: float) -> None:
        self.calls.append(("advance", n, figures))
        self.done += n

    def finish(self) -> None:
        self.calls.append(("finish",))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 0.3)), max_size=50))
def test_no_advance_is_lost_and_at_most_five_lines_a_second_are_written(
    advances: list[tuple[int, float]],
) -> None:
    clock, lines, bar = Clock(), [], Bar()
    writer = ProgressLines(lines.append, clock)
    writer.start("epoch 1", None, "rows")
    for n, seconds in advances:
        clock.now += seconds
        writer.advance(n, loss=n / 2)
    writer.finish()
    assert all(replay(line, bar) for line in lines)
    assert bar.done == sum(n for n, _ in advances)
    assert len(lines) <= 3 + 1 + clock.now * 5
    assert bar.calls[0] == ("start", "epoch 1", None, "rows")
    assert bar.calls[-1] == ("finish",)


def test_the_latest_figures_survive_the_throttle() -> None:
    clock, lines, bar = Clock(), [], Bar()
    writer = ProgressLines(lines.append, clock)
    writer.start("epoch 1", 3, "batches")
    writer.advance(1, loss=3.0)
    writer.advance(1, loss=2.0)
    writer.advance(1, loss=1.0)
    writer.finish()
    for line in lines:
        replay(line, bar)
    assert bar.calls == [
        ("start", "epoch 1", 3, "batches"),
        ("advance", 1, {"loss": 3.0}),
        ("advance", 2, {"loss": 1.0}),
        ("finish",),
    ]


def test_any_other_line_is_left_to_the_log() -> None:
    bar = Bar()
    assert not replay("loss went down\n", bar)
    assert not replay(f"he said {PREFIX}\n", bar)
    assert bar.calls == []


def test_a_pod_s_log_gets_one_line_in_half_a_minute_and_one_at_the_end() -> None:
    clock, lines = Clock(), []
    plain = PlainProgress("train lr", lines.append, clock)
    plain.start("epoch 1", 2000, "samples")
    for _ in range(60):
        clock.now += 1
        plain.advance(20, loss=0.25)
    plain.finish()
    assert lines == [
        "train lr: epoch 1: 600 of 2,000 samples in 30 s, loss 0.25",
        "train lr: epoch 1: 1,200 of 2,000 samples in 60 s, loss 0.25",
        "train lr: epoch 1: 1,200 of 2,000 samples in 60 s, loss 0.25",
    ]
