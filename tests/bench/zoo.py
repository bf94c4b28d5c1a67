"""The whole zoo on one simulated market, at equal budget, beside the ceiling.

    python tests/bench/zoo.py [--impressions 500000] [--epochs 4] [--models lr,fm,...] [--seeds 1] [--set din.softmax=true]

Every model gets the same data, epochs, batch and learning rates, and its own default hyperparameters (`--set` changes one). Judged on
the test split, which comes after everything a model has seen. NE is that of the raw model without a calibrator. The ceiling is the
market's own true probability. Histories are read in order by DIEN and, by the age of their items, by DIN; the other models see a bag.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from clickmill.contract import Role, load
from clickmill.data import PreparedDataset, PrepareOptions, prepare
from clickmill.data.world import WorldConfig, write
from clickmill.evaluation import auc, normalized_entropy
from clickmill.features import FeatureSpace, fit
from clickmill.models import MODELS, configure
from clickmill.training import TrainingConfig, train

DEFAULT = TrainingConfig()
CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"


def market(root: Path, impressions: int, users: int, seed: int) -> PreparedDataset:
    """Simulate and prepare, or open what an earlier run left at `root`."""
    dataset = root / "dataset"
    if not dataset.exists():
        write(WorldConfig(impressions=impressions, n_users=users, seed=seed), root / "world")
        world = root / "world"
        prepare(
            [world / "impressions"], load(CONTRACT), dataset,
            clicks=[world / "clicks"], truth=[world / "truth"], options=PrepareOptions(),
        )  # fmt: skip
    return PreparedDataset.open(dataset)


def judged(dataset: PreparedDataset) -> tuple[np.ndarray, np.ndarray]:
    """Labels and true probabilities of the test split."""
    truth = dataset.contract.of_role(Role.TRUTH)
    assert truth
    table = dataset.columns("test", [dataset.label, truth])
    return table[dataset.label].to_numpy(), table[truth].to_numpy()


def run(
    name: str, dataset: PreparedDataset, space: FeatureSpace, options: dict[str, Any], config: TrainingConfig
) -> dict[str, float]:
    """Train one model and judge it on the test split."""
    y, _ = judged(dataset)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trained = train(dataset, space, name, model_config=options, config=config, out=Path(folder) / "model")
        seconds = time.perf_counter() - began
        logit = trained.raw_logits_of(dataset, "test").astype(np.float64)
    p = 1 / (1 + np.exp(-logit))
    rates = [record["samples_per_second"] for record in trained.meta["history"]]
    return {
        "auc": auc(y, p),
        "ne": normalized_entropy(y, p),
        "epoch": trained.meta["best_epoch"],
        "validation_ne": min(record["ne"] for record in trained.meta["history"]),
        "seconds": seconds,
        "samples/s": float(np.median(rates)),
    }


def settings(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """`model.setting=value` to {model: {setting: value}}; values as JSON, or else as words."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        where, _, value = pair.partition("=")
        model, _, key = where.partition(".")
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        found.setdefault(model, {})[key] = parsed
    for model, options in found.items():
        configure(model, options)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=500_000, help="rows of the impression log")
    parser.add_argument(
        "--users", type=int, default=10_000, help="users; fewer make longer histories per impression"
    )
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    parser.add_argument("--batch-size", type=int, default=DEFAULT.batch_size, help="impressions per step")
    parser.add_argument("--learning-rate", type=float, default=DEFAULT.learning_rate, help="Adam's step")
    parser.add_argument(
        "--embedding-learning-rate",
        type=float,
        default=DEFAULT.embedding_learning_rate,
        help="Adagrad's step",
    )
    parser.add_argument("--l2", type=float, default=DEFAULT.l2, help="pull of touched rows towards zero")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per model; the median is told")
    parser.add_argument("--models", default=",".join(MODELS), help="which models, comma-separated")
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODEL.SETTING=VALUE", help="hyperparameter"
    )
    parser.add_argument("--world", type=Path, help="folder to keep the market in and to reuse")
    args = parser.parse_args()
    options = settings(args.set)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = market(args.world or Path(temporary), args.impressions, args.users, seed=7)
        space = fit(dataset)
        y, truth = judged(dataset)
        rows = {split: f"{info.rows:,}" for split, info in dataset.meta.splits.items()}
        print(f"rows {rows}, test CTR {y.mean():.2%}, {args.epochs} epochs, batch {args.batch_size}")
        print(
            f"{'model':12s} {'AUC':>7s} {'NE':>7s} {'val. NE':>8s} {'epoch':>6s} {'samples/s':>10s} {'s':>5s}"
        )
        for name in args.models.split(","):
            found = []
            for seed in range(args.seeds):
                config = TrainingConfig(
                    epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.learning_rate,
                    embedding_learning_rate=args.embedding_learning_rate, l2=args.l2, seed=seed,
                )  # fmt: skip
                found.append(run(name, dataset, space, options.get(name, {}), config))
            middle = {key: float(np.median([f[key] for f in found])) for key in found[0]}
            spread = ""
            if args.seeds > 1:
                spread = f"   AUC {min(f['auc'] for f in found):.4f} to {max(f['auc'] for f in found):.4f}"
            print(
                f"{name:12s} {middle['auc']:7.4f} {middle['ne']:7.4f} {middle['validation_ne']:8.4f} {middle['epoch']:6.0f} "
                f"{middle['samples/s']:10,.0f} {middle['seconds']:5.0f}{spread}",
                flush=True,
            )
        print(f"{'ceiling':12s} {auc(y, truth):7.4f} {normalized_entropy(y, truth):7.4f}")


if __name__ == "__main__":
    main()
