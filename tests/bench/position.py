"""Position bias on the market with known truth: who ranks by what an ad is worth, and who by where it stood?

    python tests/bench/position.py [--impressions 500000] [--epochs 4] [--models lr,dcn_v2] [--skill 0.55] [--bid-weight 0.5]

Each model is trained three ways on the same logs: naive (the slot is ignored), additive (a shift of the log-odds per slot) and examination
(P(seen | slot) x P(click | seen)). All are asked for slot 1 on the test split and judged against the market's own relevance r, P(click |
seen): AUC within requests is the expected GAUC of clicks drawn from r, as if every slot had been seen; each row stands in for a click of
weight r and a non-click of weight 1 - r. Intervals are 95 %, requests drawn in pairs.

Who decides the slots matters: `--skill` is the weight of the true log-odds in the ranking that filled the log, `--bid-weight` that of
ln(bid). Where the old ranking knew more of relevance than the model can learn, slot and unexplained relevance go together, and no model of
this kind can tell them apart; `--skill 0` leaves the slots to bids and chance.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickmill.contract import Role, load
from clickmill.data import PreparedDataset, prepare
from clickmill.data.world import LoggingPolicy, WorldConfig, write
from clickmill.evaluation import bootstrap_gauc, check_rows, paired_bootstrap_gauc
from clickmill.evaluation.rows import Rows
from clickmill.features import FeatureSpace, fit
from clickmill.training import TrainedModel, TrainingConfig, train

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
TREATMENTS = ("naive", "additive", "examination")
Floats = npt.NDArray[np.float64]


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
    if treatment == "naive":
        # With one slot to know, every row stands in slot 1.
        space, treatment = dataclasses.replace(space, positions=1), "additive"
    with tempfile.TemporaryDirectory() as folder:
        return train(
            dataset, space, model, model_config={"position": treatment}, config=config, out=Path(folder) / "out"
        )  # fmt: skip


def curve(model: TrainedModel, treatment: str) -> Floats | None:
    """What each slot is worth beside the first: P(seen), or for the additive bias its odds, which are close where clicks are rare."""
    if treatment == "examination":
        return np.asarray(model.keras_model.get_layer("examination").curve, np.float64)
    if treatment == "additive":
        shift = np.asarray(model.keras_model.get_layer("position_bias").shift, np.float64)
        return np.exp(shift - shift[0])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=500_000, help="rows of the impression log")
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    parser.add_argument("--models", default="lr,dcn_v2", help="which models, comma-separated")
    policy = LoggingPolicy()
    parser.add_argument(
        "--skill", type=float, default=policy.skill, help="what the old ranking knew of relevance"
    )
    parser.add_argument(
        "--bid-weight", type=float, default=policy.bid_weight, help="how much bids decided the slots"
    )
    args = parser.parse_args()
    config = TrainingConfig(epochs=args.epochs)
    policy = LoggingPolicy(skill=args.skill, bid_weight=args.bid_weight)
    world = WorldConfig(impressions=args.impressions, policy=policy)
    true_curve = np.array(world.examination)
    with tempfile.TemporaryDirectory() as temporary:
        logs = Path(temporary) / "world"
        write(world, logs)
        dataset = prepare(
            [logs / "impressions"], load(CONTRACT), Path(temporary) / "dataset",
            clicks=[logs / "clicks"], truth=[logs / "truth"],
        )  # fmt: skip
        space, truth = fit(dataset), Truth.of(dataset, true_curve)
        train_info = dataset.meta.splits["train"]
        print(
            f"train {train_info.rows:,} rows, {train_info.clicks:,} clicks; test {len(truth.request):,} rows, "
            f"{len(np.unique(truth.request)):,} requests"
        )
        best, group = truth.rows(np.log(truth.relevance / (1 - truth.relevance)))
        print(f"AUC within requests of the relevance itself: {bootstrap_gauc(best, group).value:.4f}")
        print(f"true curve: {' '.join(f'{e:.3f}' for e in true_curve)}")
        for name in args.models.split(","):
            naive = None
            for treatment in TREATMENTS:
                began = time.perf_counter()
                model = trained(dataset, space, name, treatment, config)
                rows, group = truth.rows(model.raw_logits_in(at_the_top(dataset)).astype(np.float64))
                naive = naive or rows
                line = f"{name:8s} {treatment:12s} AUC within requests {bootstrap_gauc(rows, group)}"
                if rows is not naive:
                    line += f"  minus naive {paired_bootstrap_gauc(naive, rows, group)}"
                found = curve(model, treatment)
                if found is not None:
                    error = found / true_curve[: len(found)] - 1
                    line += "  curve " + " ".join(
                        f"{e:.3f} ({r:+.1%})" for e, r in zip(found, error, strict=True)
                    )
                print(
                    f"{line}  epoch {model.meta['best_epoch']}  {time.perf_counter() - began:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
