"""Cold start: what rows for unseen values are worth on ads and users that training did not know.

    python tests/bench/cold.py [--impressions 600000] [--seeds 2] [--model dcn_v2] [--world FOLDER]

The same logs are prepared by contracts that differ in `unseen` only, for the ad and the user:

    one       all values without a row share one
    hashed    64 rows, by the hash of the value
    like      rows by what the value is like: an ad's advertiser and category, a user's segment, age and region

A model is trained on each, with every seed, and asked for the test split, which is later than all it has seen. Told are NE and AUC on
rows whose ad or user is new (never in train) or rare (below the vocabulary's min_count), and the change of NE from `one` with its 95 %
interval: rows are drawn in pairs, the loss of a row is the mean over the seeds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from clickmill.bundle.novelty import novelty
from clickmill.calibration import Calibration
from clickmill.contract import FeatureContract, Unseen, load
from clickmill.data import PreparedDataset, PrepareOptions, prepare
from clickmill.data.world import WorldConfig, write
from clickmill.evaluation import auc, normalized_entropy
from clickmill.features import fit
from clickmill.training import TrainingConfig, train

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
AD, USER = ("advertiser_id", "category"), ("segment", "age_bucket", "region")
SETTINGS: dict[str, dict[str, Unseen | None]] = {
    "one": {"ad_id": None, "user_id": None},
    "hashed": {"ad_id": Unseen(buckets=64), "user_id": Unseen(buckets=64)},
    "like": {"ad_id": Unseen(buckets=1000, like=AD), "user_id": Unseen(buckets=2000, like=USER)},
}


def contract_with(unseen: dict[str, Unseen | None]) -> FeatureContract:
    """The world's contract with rows for unseen values as given."""
    contract = load(CONTRACT)
    fields: dict[str, Any] = dict(contract.fields)
    for name, rows in unseen.items():
        encoding = fields[name].encoding.model_copy(update={"unseen": rows})
        fields[name] = fields[name].model_copy(update={"encoding": encoding})
    return FeatureContract.model_validate(contract.model_copy(update={"fields": fields}).model_dump())


def dataset_of(root: Path, setting: str, negatives_kept: float) -> PreparedDataset:
    out = root / f"cold-{setting}-{negatives_kept:g}"
    if not out.exists():
        prepare(
            [root / "world" / "impressions"], contract_with(SETTINGS[setting]), out,
            clicks=[root / "world" / "clicks"], truth=[root / "world" / "truth"],
            options=PrepareOptions(negatives_kept=negatives_kept),
        )  # fmt: skip
    return PreparedDataset.open(out)


def predicted(dataset: PreparedDataset, model: str, seeds: int, epochs: int) -> np.ndarray:
    """(seeds, n) probabilities of the test split, the prior of the sampling corrected in closed form."""
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            config = TrainingConfig(seed=seed, epochs=epochs)
            trained = train(dataset, fit(dataset), model, config=config, out=Path(folder) / "model")
        logit = trained.raw_logits_of(dataset, "test").astype(np.float64)
        found.append(Calibration(negatives_kept=dataset.negatives_kept).pctr(logit))
    return np.array(found)


def row_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss (n,) of each row, the mean over the seeds."""
    return -np.where(y == 1, np.log(p), np.log1p(-p)).mean(axis=0)


def change(y: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Change of NE and its 95 % interval: rows drawn in pairs, 400 times."""
    rng, n = np.random.default_rng(0), len(y)

    def ne(at: np.ndarray) -> float:
        rate = y[at].mean()
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return float((ours[at] - theirs[at]).mean() / entropy)

    drawn = [ne(rng.integers(0, n, n)) for _ in range(400)]
    return ne(np.arange(n)), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=600_000, help="rows of the impression log")
    parser.add_argument("--seeds", type=int, default=2, help="trainings per setting")
    parser.add_argument("--model", default="dcn_v2", help="the model")
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    parser.add_argument("--negatives-kept", type=float, default=1.0, help="share of non-clicks kept")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="which settings, `one` first")
    parser.add_argument("--world", type=Path, help="folder to keep the market in and to reuse")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.world or Path(temporary)
        if not (root / "world").exists():
            write(WorldConfig(impressions=args.impressions, seed=7), root / "world")
        losses: dict[str, np.ndarray] = {}
        for setting in args.settings.split(","):
            dataset = dataset_of(root, setting, args.negatives_kept)
            y = dataset.columns("test", [dataset.label])[dataset.label].to_numpy()
            p = predicted(dataset, args.model, args.seeds, args.epochs)
            losses[setting] = row_loss(y, p)
            labels = novelty(dataset, "test", least_values=20)
            slices = {"all rows": np.ones(len(y), bool)}
            for column, values in labels.items():
                slices |= {f"{column}: {value}": values == value for value in ("new", "rare", "known")}
            for name, at in slices.items():
                ne = np.mean([normalized_entropy(y[at], seed[at]) for seed in p])
                ranks = np.mean([auc(y[at], seed[at]) for seed in p])
                told = f"{setting:8s} {name:24s} n {at.sum():7,d} clicks {int(y[at].sum()):5,d}  NE {ne:.4f}  AUC {ranks:.4f}"
                if setting != "one":
                    low_high = change(y[at], losses[setting][at], losses["one"][at])
                    told += "  change of NE {:+.4f} [{:+.4f}, {:+.4f}]".format(*low_high)
                print(told, flush=True)


if __name__ == "__main__":
    main()
