"""What issue 5 asks of the endpoint, beside what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serve_reading import AtRate, Reading
from serve_steps import Step

Readings = Mapping[int, Mapping[str, Reading]]
"""By rows, then by side."""


@dataclass(frozen=True)
class Goal:
    """`at_least` or at most."""

    words: str
    got: float
    goal: float
    at_least: bool
    by_cpu: float | None = None
    """The same ratio of processor time a request, which neighbours on the machine do not move."""

    @property
    def ok(self) -> bool:
        return self.got >= self.goal if self.at_least else self.got <= self.goal

    def line(self) -> str:
        sign = ">=" if self.at_least else "<="
        cpu = "" if self.by_cpu is None else f"{self.by_cpu:8.2f}"
        return (
            f"{self.words:86} {self.got:8.2f} {cpu:8}  {sign} {self.goal:5g}  {'ok' if self.ok else 'MISSED'}"
        )


def beside_stock(readings: Readings) -> Iterator[Goal]:
    """Like for like: JSON with JSON, binary with binary; and the best of ours with the best of theirs."""
    kinds = ("V1 JSON", "V2 binary")
    if 1 in readings:
        for spoken in kinds:
            ours, stock = readings[1][f"ours {spoken}"], readings[1][f"stock {spoken}"]
            got, cpu = stock.p50_ms / ours.p50_ms, stock.cpu_ms / ours.cpu_ms
            yield Goal(f"p50 at 1 row, stock / ours, {spoken}", got, 4, True, cpu)
    for rows, goal in ((32, 4), (256, 3)):
        if rows not in readings:
            continue
        found = readings[rows]
        for spoken in kinds:
            ours, stock = found[f"ours {spoken}"], found[f"stock {spoken}"]
            got, cpu = ours.most_per_second / stock.most_per_second, stock.cpu_ms / ours.cpu_ms
            yield Goal(f"predictions/s at {rows} rows, ours / stock, {spoken}", got, goal, True, cpu)
        ours, stock, call = (
            max((r for name, r in found.items() if name.startswith(side)), key=lambda r: r.most_per_second)
            for side in ("ours", "stock", "in-process")
        )
        got, cpu = ours.most_per_second / stock.most_per_second, stock.cpu_ms / ours.cpu_ms
        words = f"predictions/s at {rows} rows, best of ours / best of stock (bare call {stock.cpu_ms / call.cpu_ms:.2f} by cpu)"
        yield Goal(words, got, goal, True, cpu)


def beside_the_call(readings: Readings, rows: int = 256) -> Iterator[Goal]:
    """What the server adds to the best in-process call."""
    if rows not in readings:
        return
    found = readings[rows]
    name, call = min(
        ((name, r) for name, r in found.items() if name.startswith("in-process")),
        key=lambda item: item[1].p50_ms,
    )
    for words, spoken, goal in (
        ("REST", ("V1 JSON", "V2 binary"), 1.15),
        ("gRPC", ("V2 gRPC", "TF Predict"), 1.10),
    ):
        for one in spoken:
            got = found[f"ours {one}"].p50_ms / call.p50_ms
            cpu = found[f"ours {one}"].cpu_ms / call.cpu_ms
            yield Goal(f"p50 at {rows} rows, {words} ({one}) / {name}", got, goal, False, cpu)


def of_ranker(found: Mapping[int, tuple[float, float, float]]) -> Iterator[Goal]:
    """By candidates: p50 in ms of the endpoint's :rank, of the in-process form of a request, of in-process repeated rows."""
    for rows, (rank, form, repeated) in found.items():
        yield Goal(f"p50 at {rows} candidates, in-process repeated rows / :rank", repeated / rank, 1.5, True)
        yield Goal(
            f"p50 at {rows} candidates, in-process repeated rows / in-process request",
            repeated / form,
            1.5,
            True,
        )


def of_half(found: Mapping[str, AtRate]) -> Iterator[Goal]:
    """p99 of arrivals at half of saturation, 100 candidates."""
    for name, reading in found.items():
        yield Goal(
            f"p99 ms at 100 candidates, {reading.rate:.0f}/s = half of saturation, {name}",
            reading.p99_ms,
            10,
            False,
        )


def of_steps(start: Step | None, reload: Step | None) -> Iterator[Goal]:
    """First 50 requests beside the steady state."""
    for words, step in (("ready", start), ("a reload", reload)):
        if step is not None:
            yield Goal(
                f"p90 of the first 50 after {words} / steady ({step.steady_ms:.2f} ms; worst {step.worst_ms:.2f} ms)",
                step.ratio,
                1.5,
                False,
            )
    if reload is not None:
        yield Goal("p99 ms while a new bundle is loaded and proven", reload.meanwhile_ms, 10, False)
        yield Goal("requests that went without an answer at a reload", reload.refused, 0, False)
