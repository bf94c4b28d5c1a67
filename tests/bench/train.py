"""Training speed of Clickmill, its peers and the roofline, alternating in one run.

    make bench-train ARGS="--ids 1000000"
    python tests/bench/train.py [--ids 100000] [--rounds 5] [--steps 20] [--sides clickmill,deepctr] [--no-epoch] [--quick]

All sides train the same DCN-v2 (3 full cross layers, deep 256-128, 26 fields, 13 numerics, dim 16, batch 4096) on the same rows, each in a process
of its own environment. The rooflines are the dense layers alone on embeddings that are ready in memory: forward, backward down to the
embeddings' gradient, Adam. Peers come one after the other, each beside Clickmill and the rooflines, so that two of the large tables are in
memory, not five.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import train_data
from train_environments import CACHE, CLICKMILL, DEEPCTR, FUXICTR, HERE, Environment, python
from train_protocol import Process, SideFailed


@dataclass(frozen=True)
class Kind:
    """A side that can be measured: which script, in which environment, which of its variants."""

    script: str
    environment: Environment
    variant: str
    learns: bool = True


SIDES = {
    "clickmill": Kind("train_clickmill.py", CLICKMILL, "default"),
    "tensorflow-tower": Kind("train_tower_tensorflow.py", CLICKMILL, "default", learns=False),
    "torch-tower": Kind("train_tower_torch.py", FUXICTR, "default", learns=False),
    "deepctr": Kind("train_deepctr.py", DEEPCTR, "default"),
    "deepctr-sparse": Kind("train_deepctr.py", DEEPCTR, "sparse"),
    "fuxictr": Kind("train_fuxictr.py", FUXICTR, "default"),
    "fuxictr-sparse": Kind("train_fuxictr.py", FUXICTR, "sparse"),
    "clickmill-no-l2": Kind("train_clickmill.py", CLICKMILL, "no-l2"),
    "clickmill-adam": Kind("train_clickmill.py", CLICKMILL, "adam"),
    "clickmill-bfloat16": Kind("train_clickmill.py", CLICKMILL, "bfloat16"),
    "clickmill-xla": Kind("train_clickmill.py", CLICKMILL, "xla"),
    "clickmill-rank-64": Kind("train_clickmill.py", CLICKMILL, "rank-64"),
}
ALWAYS = ("clickmill", "tensorflow-tower", "torch-tower")
"""In each group, beside one of the others."""


@dataclass
class Measured:
    """What was seen of one side, over all groups that it was in."""

    rates: list[float] = field(default_factory=list)
    input_rates: list[float] = field(default_factory=list)
    auc: float | None = None
    peak: float = 0.0
    of_roofline: list[float] = field(default_factory=list)
    """Samples/s by those of the best roofline in the same round: a machine that grows slower or quicker meanwhile does not show here."""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    ids: int
    rounds: int
    steps: int
    rows: int
    held_out: int
    epoch: bool


def group(names: list[str], plan: Plan, data: Path, seen: dict[str, Measured]) -> dict[str, list[float]]:
    """Measure these sides in alternating rounds; adds to `seen`, and returns this group's samples/s by side."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as logs, ExitStack() as running:
        processes = {name: _start(SIDES[name], plan, data, Path(logs) / f"{name}.log") for name in names}
        for process in processes.values():
            running.callback(process.close)
        for name, process in processes.items():
            measured = seen.setdefault(name, Measured())
            if plan.epoch and SIDES[name].learns and measured.auc is None:
                measured.auc = process.ask("epoch")["auc"]
            process.ask("train", steps=3)  # traces graphs, touches the memory
        for _ in range(plan.rounds):
            for name, process in processes.items():
                rates[name].append(_rate(process.ask("train", steps=plan.steps)))
                if name == "clickmill":
                    seen[name].input_rates.append(_rate(process.ask("input", steps=plan.steps)))
        for name, process in processes.items():
            seen[name].peak = max(seen[name].peak, process.ask("memory")["peak"])
            seen[name].rates += rates[name]
    towers = [rates[name] for name in names if name.endswith("tower")]
    if towers and "clickmill" in rates:
        best = [max(together) for together in zip(*towers, strict=True)]
        ours = zip(rates["clickmill"], best, strict=True)
        seen["clickmill"].of_roofline += [rate / roofline for rate, roofline in ours]
    return rates


def table(seen: dict[str, Measured], beside: dict[str, tuple[float, float]], plan: Plan) -> str:
    """The results as a table in Markdown; `beside`: of each side, Clickmill's samples/s in its groups and the best roofline's."""
    lines = [
        f"DCN-v2, {train_data.FIELDS} fields x {plan.ids:,} ids, dim {train_data.DIM}, batch {train_data.BATCH}; samples/s: median of the "
        f"rounds (lowest to highest), {plan.steps} steps each",
        "",
        "| side | samples/s | of the roofline | Clickmill is | peak memory | AUC after one epoch |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in seen.items():
        ours, roofline = beside[name]
        spread = f"{measured.rate:,.0f} ({min(measured.rates):,.0f} to {max(measured.rates):,.0f})"
        area = "" if measured.auc is None else f"{measured.auc:.4f}"
        times = "" if name == "clickmill" else f"{ours / measured.rate:.2f} x"
        memory = f"{measured.peak / 2**30:.2f} GiB"
        lines.append(f"| {name} | {spread} | {measured.rate / roofline:.1%} | {times} | {memory} | {area} |")
    if inputs := seen.get("clickmill", Measured()).input_rates:
        lines += ["", f"Clickmill's input alone, on one thread: {statistics.median(inputs):,.0f} samples/s"]
    if shares := seen.get("clickmill", Measured()).of_roofline:
        told = f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
        lines += [f"Clickmill of the roofline, round by round: {told}"]
    return "\n".join(lines)


def main() -> None:
    args = _arguments()
    plan = Plan(args.ids, args.rounds, args.steps, args.rows, args.rows // 5, not args.no_epoch)
    if args.quick:
        plan = Plan(1000, 2, 2, 20_000, 4_000, plan.epoch)
    wanted = args.sides.split(",") if args.sides else list(SIDES)
    if unknown := [name for name in wanted if name not in SIDES]:
        sys.exit(f"no side is called {', '.join(unknown)}; there are {', '.join(SIDES)}")
    data = train_data.written(CACHE, plan.ids, plan.rows, plan.held_out)
    always = [name for name in ALWAYS if name in wanted]
    others = [name for name in wanted if name not in ALWAYS]
    seen: dict[str, Measured] = {}
    beside: dict[str, tuple[float, float]] = {}
    for other in others or [None]:
        names = [*always, *([other] if other else [])]
        print(f"measuring {', '.join(names)}", file=sys.stderr, flush=True)
        try:
            rates = group(names, plan, data, seen)
        except SideFailed as error:
            sys.exit(f"a side of {', '.join(names)} failed: {error}")
        medians = {name: statistics.median(values) for name, values in rates.items()}
        roofline = max((medians[name] for name in always if name.endswith("tower")), default=float("nan"))
        if other:
            beside[other] = (medians.get("clickmill", float("nan")), roofline)
    towers = [seen[name].rate for name in always if name.endswith("tower")]
    for name in always:
        beside[name] = (
            seen["clickmill"].rate if "clickmill" in seen else float("nan"),
            max(towers, default=float("nan")),
        )
    print(table(seen, beside, plan))


def _start(kind: Kind, plan: Plan, data: Path, log: Path) -> Process:
    command = [str(python(kind.environment)), str(HERE / kind.script), str(data), str(plan.ids), kind.variant]
    root = str(HERE.parent.parent)
    variables = {"TF_CPP_MIN_LOG_LEVEL": "2", **dict(kind.environment.variables)}
    # Only Clickmill's own environment is to see the repository.
    variables["PYTHONPATH"] = root if kind.environment is CLICKMILL else ""
    return Process(command, variables, log)


def _rate(answer: dict[str, Any]) -> float:
    return answer["samples"] / answer["seconds"]


def _arguments() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=100_000, help="ids of each of the 26 fields (100000)")
    parser.add_argument("--rounds", type=int, default=5, help="times each side of a group is measured (5)")
    parser.add_argument("--steps", type=int, default=20, help="steps of 4096 rows in a measurement (20)")
    parser.add_argument(
        "--rows", type=int, default=500_000, help="train rows; a fifth more is held out (500000)"
    )
    parser.add_argument("--sides", default="", help=f"some of {','.join(SIDES)} (all)")
    parser.add_argument("--no-epoch", action="store_true", help="speed only: no AUC after one epoch")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    return parser.parse_args()


if __name__ == "__main__":
    main()
