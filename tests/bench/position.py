"""Position bias on the market with known truth: who ranks by what an ad is worth, and who by where it stood?

    python tests/bench/position.py [--impressions 1000000] [--seeds 7,8,9,10,11] [--models lr,dcn_v2] [--skill 0.55] [--bid-weight 0.5]

Each seed is a market of its own. On its log each model is trained naive (the slot is ignored), with the additive bias and the examination
product learned along with all other weights, and with the examination product held at the curve that clicks and logged propensities
tell (`position_curve: propensities`). All are asked for slot 1 on the test split and judged against the market's own relevance r,
P(click | seen): AUC within requests is the expected GAUC of clicks drawn from r, as if every slot had been seen; each row stands in for a
click of weight r and a non-click of weight 1 - r. Per seed intervals are 95 %, requests drawn in pairs; over seeds they are Student's.

Who decides the slots matters: `--skill` is the weight of the true log-odds in the ranking that filled the log, `--bid-weight` that of
ln(bid). A ranking that knew the truth (0.55, the default of the market) hands its knowledge on to whoever ignores the slot: among the ads
of a request those that stood high are the better ones, and naive models learn features of standing high. `--skill 0` leaves the slots
to bids and chance.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ladder import over_seeds

from clickmill.contract import Role, load
from clickmill.data import PreparedDataset, prepare
from clickmill.data.world import LoggingPolicy, WorldConfig, write
from clickmill.evaluation import bootstrap_gauc, check_rows, paired_bootstrap_gauc
from clickmill.evaluation.rows import Rows
from clickmill.features import FeatureSpace, fit
from clickmill.training import TrainedModel, TrainingConfig, train
from clickmill.training.position_curve import of_train_split

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
TREATMENTS = ("naive", "additive", "examination", "propensities")
"""`propensities` is the examination product with its curve read beforehand."""
Floats = npt.NDArray[np.float64]
Tally = dict[tuple[str, str], list[Any]]
"""Found values per seed, by what was measured and of whom."""


@dataclass(frozen=True)
class Truth:
    """Of the test split: what each ad is worth when seen (n,), and which ads competed (n,)."""

    relevance: Floats
    request: npt.NDArray[np.int64]

    @classmethod
    def of(cls, dataset: PreparedDataset, examination: Floats) -> Truth:
        known = {
            role: dataset.contract.of_role(role) for role in (Role.TRUTH, Role.REQUEST_ID, Role.POSITION)
        }
        table = dataset.columns("test", [name for name in known.values() if name])
        pctr, request, slot = (table[name].to_numpy() for name in known.values())
        return cls(pctr / examination[slot - 1], request)

    def rows(self, logit: Floats) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Each row as a click of weight r and a non-click of weight 1 - r, with their requests."""
        n = len(logit)
        p = np.tile(1 / (1 + np.exp(-logit)), 2)
        weight = np.concatenate([self.relevance, 1 - self.relevance])
        return check_rows(np.repeat([1, 0], n), p, weight), np.tile(self.request, 2)


def at_the_top(dataset: PreparedDataset) -> Iterator[pa.Table]:
    """The test split with every ad in slot 1."""
    position = dataset.contract.of_role(Role.POSITION)
    for table in dataset.scan("test"):
        column = table.column_names.index(position)
        yield table.set_column(column, position, pa.array(np.ones(len(table), np.int64)))


def trained(
    dataset: PreparedDataset, space: FeatureSpace, model: str, treatment: str, config: TrainingConfig
) -> TrainedModel:
    position = "additive" if treatment in ("naive", "additive") else "examination"
    if treatment == "naive":
        # With one slot to know, every row stands in slot 1.
        space = dataclasses.replace(space, positions=1)
    if treatment == "propensities":
        config = config.model_copy(update={"position_curve": "propensities"})
    with tempfile.TemporaryDirectory() as folder:
        return train(
            dataset, space, model, model_config={"position": position}, config=config, out=Path(folder) / "out"
        )  # fmt: skip


def curve(model: TrainedModel, treatment: str) -> Floats | None:
    """What each slot is worth beside the first: P(seen), or for the additive bias its odds, which are close where clicks are rare."""
    if treatment == "naive":
        return None
    if treatment == "additive":
        shift = np.asarray(model.keras_model.get_layer("position_bias").shift, np.float64)
        return np.exp(shift - shift[0])
    return np.asarray(model.keras_model.get_layer("examination").curve, np.float64)


def one_market(
    world: WorldConfig,
    models: Sequence[str],
    treatments: Sequence[str],
    config: TrainingConfig,
    tally: Tally,
    folder: Path,
) -> None:
    """Simulate, prepare, train and judge; prints as it goes, and adds to the tally."""
    true_curve = np.array(world.examination)
    logs = folder / "world"
    write(world, logs)
    dataset = prepare(
        [logs / "impressions"], load(CONTRACT), folder / "dataset", clicks=[logs / "clicks"], truth=[logs / "truth"]
    )  # fmt: skip
    space, truth = fit(dataset), Truth.of(dataset, true_curve)
    info = dataset.meta.splits["train"]
    read = of_train_split(dataset, space.positions)
    tally["curve", "clicks and propensities"].append(np.array(read.seen) / true_curve[: len(read.seen)] - 1)
    best, group = truth.rows(np.log(truth.relevance / (1 - truth.relevance)))
    print(
        f"seed {world.seed}: train {info.rows:,} rows, {info.clicks:,} clicks; test {len(truth.request):,} rows; relevance itself "
        f"{bootstrap_gauc(best, group).value:.4f}; curve from {read.clicks:,} clicks {' '.join(f'{e:.3f}' for e in read.seen)}, "
        f"standard errors {' '.join(f'{e:.1%}' for e in read.relative_error)}",
        flush=True,
    )
    for name in models:
        naive = None
        for treatment in treatments:
            began = time.perf_counter()
            model = trained(dataset, space, name, treatment, config)
            rows, group = truth.rows(model.raw_logits_in(at_the_top(dataset)).astype(np.float64))
            within = bootstrap_gauc(rows, group)
            tally["within", f"{name} {treatment}"].append(within.value)
            line = f"  {name:8s} {treatment:12s} AUC within requests {within}"
            if naive is None:
                naive = rows
            else:
                gain = paired_bootstrap_gauc(naive, rows, group)
                tally["minus naive", f"{name} {treatment}"].append(gain.value)
                line += f"  minus naive {gain}"
            found = curve(model, treatment)
            if found is not None:
                error = found / true_curve[: len(found)] - 1
                tally["curve", f"{name} {treatment}"].append(error)
                line += "  curve " + " ".join(
                    f"{e:.3f} ({r:+.1%})" for e, r in zip(found, error, strict=True)
                )
            took = time.perf_counter() - began
            print(f"{line}  epoch {model.meta['best_epoch']:g}  {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=1_000_000, help="rows of each impression log")
    parser.add_argument("--seeds", default="7,8,9,10,11", help="one market each, comma-separated")
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    parser.add_argument(
        "--treatments", default=",".join(TREATMENTS), help="comma-separated, naive among them"
    )
    parser.add_argument("--models", default="lr,dcn_v2", help="comma-separated; empty for the curve alone")
    policy = LoggingPolicy()
    parser.add_argument(
        "--skill", type=float, default=policy.skill, help="what the old ranking knew of relevance"
    )
    parser.add_argument(
        "--bid-weight", type=float, default=policy.bid_weight, help="how much bids decided the slots"
    )
    args = parser.parse_args()
    policy = LoggingPolicy(skill=args.skill, bid_weight=args.bid_weight)
    print(f"true curve: {' '.join(f'{e:.3f}' for e in WorldConfig().examination)}")
    tally: Tally = defaultdict(list)
    for seed in map(int, args.seeds.split(",")):
        world = WorldConfig(impressions=args.impressions, policy=policy, seed=seed)
        config = TrainingConfig(epochs=args.epochs, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            models, treatments = (
                [x for x in text.split(",") if x] for text in (args.models, args.treatments)
            )
            one_market(world, models, treatments, config, tally, Path(folder))
    print("over seeds:")
    for (kind, who), found in tally.items():
        if kind == "curve":
            errors = np.array(found)[:, 1:]
            told = ", ".join(over_seeds(list(column), "+.1%") for column in errors.T)
            print(
                f"  curve {who}: errors in slots 2, 3, ...: {told}; largest of all {np.abs(errors).max():.1%}"
            )
        else:
            print(f"  {kind} {who}: {over_seeds(found, '+.4f' if kind == 'minus naive' else '.4f')}")


if __name__ == "__main__":
    main()
