"""The whole zoo on one simulated market, at equal budget, beside the ceiling.

    python tests/bench/zoo.py [--impressions 500000] [--users 10000] [--negatives-kept 1] [--models lr,fm,...] [--seeds 1]
                              [--set din.softmax=true] [--train epochs=4]

Every model gets the same data and training recipe, and its own default hyperparameters (`--set` changes one). Judged on the test split,
which comes after everything a model has seen. The ceiling is the market's own true probability, which knows what no log could teach:
what only the ids tell, and every effect without error. Histories are read in order by DIEN and, by the age of their items, by DIN; the
other models see a bag. More impressions of the same users and ads are more clicks to learn each effect from; non-clicks may be sampled
for training (`--negatives-kept`): k non-clicks per click keep about k / (1 + k) of what a log teaches, at a fraction of the time. With
`--world` the market and each training's predictions stay in that folder, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from ladder import Trial, by_model, kept_or, parsed, report, trial

from clickmill.contract import Role, load
from clickmill.data import Fractions, PreparedDataset, PrepareOptions, prepare
from clickmill.data.world import WorldConfig, write
from clickmill.features import fit
from clickmill.models import MODELS
from clickmill.training import TrainingConfig

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
FRACTIONS = Fractions(train=0.8, validation=0.05, calibration=0.03, test=0.12)
"""More to learn from than the default, and no more to judge by than the intervals need: models are not calibrated here."""


def market(root: Path, impressions: int, users: int, negatives_kept: float, seed: int) -> PreparedDataset:
    """Simulate and prepare, or open what an earlier run left at `root`."""
    dataset = root / "dataset"
    if not dataset.exists():
        world = root / "world"
        write(WorldConfig(impressions=impressions, n_users=users, seed=seed), world)
        prepare(
            [world / "impressions"], load(CONTRACT), dataset,
            clicks=[world / "clicks"], truth=[world / "truth"],
            options=PrepareOptions(negatives_kept=negatives_kept, fractions=FRACTIONS),
        )  # fmt: skip
    return PreparedDataset.open(dataset)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=500_000, help="rows of the impression log")
    parser.add_argument(
        "--users", type=int, default=10_000, help="users; fewer make longer histories per impression"
    )
    parser.add_argument(
        "--negatives-kept", type=float, default=1.0, help="share of the non-clicks that is trained on"
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings per model")
    parser.add_argument(
        "--models", default=",".join(MODELS), help="which models, comma-separated, from the bottom up"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODEL.SETTING=VALUE", help="hyperparameter"
    )
    parser.add_argument(
        "--train", action="append", default=[], metavar="SETTING=VALUE", help="setting of the training"
    )
    parser.add_argument(
        "--world", type=Path, help="folder to keep the market and the trainings in and to reuse"
    )
    args = parser.parse_args()
    options = by_model(args.set)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = market(
            args.world or Path(temporary), args.impressions, args.users, args.negatives_kept, seed=7
        )
        space = fit(dataset)
        truth = dataset.contract.of_role(Role.TRUTH)
        assert truth
        test = dataset.columns("test", [dataset.label, "user_id", truth])
        y, user = test[dataset.label].to_numpy(), test["user_id"].to_numpy()
        rows = {
            split: f"{info.rows:,} ({info.clicks:,} clicks)" for split, info in dataset.meta.splits.items()
        }
        print(f"rows {rows}, test CTR {y.mean():.2%}", flush=True)
        found: dict[str, list[Trial]] = {}
        for name in args.models.split(","):
            for seed in range(args.seeds):
                config = TrainingConfig(**{**parsed(args.train), "seed": seed})
                settings = f"{sorted(options.get(name, {}).items())} {config!r}"
                key = hashlib.sha256(settings.encode()).hexdigest()[:12]
                done = kept_or(
                    partial(trial, name, dataset, space, options.get(name, {}), config),
                    args.world and args.world / "trials" / f"{name}-{seed}-{key}.npz",
                )
                found.setdefault(name, []).append(done)
                print(done, flush=True)
        models = {name: [t.p for t in trials] for name, trials in found.items()}
        print("\n".join(report(y, user, {**models, "the true probabilities": [test[truth].to_numpy()]})))


if __name__ == "__main__":
    main()
