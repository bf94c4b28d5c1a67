"""What rounded embedding rows cost: NE of one trained model on the simulated market with its rows in float32, bfloat16 and int8.

    python tests/bench/rows.py [--impressions 600000] [--model dcn_v2] [--dim 8] [--world FOLDER]

Told are the bytes of the tables, NE on the test split, which is later than all the model has seen, and the loss relative to float32 with
its 95 % interval (rows drawn in pairs). The training prior is corrected in closed form; there is no calibrator to make good what rounding did.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from clickmill.bundle.stored_rows import RowFormat, served
from clickmill.calibration import Calibration
from clickmill.contract import load
from clickmill.data import PreparedDataset, prepare
from clickmill.data.world import WorldConfig, write
from clickmill.evaluation import normalized_entropy
from clickmill.features import fit
from clickmill.training import TrainingConfig, train

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
FORMATS: tuple[RowFormat, ...] = ("float32", "bfloat16", "int8")


def row_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return -np.where(y == 1, np.log(p), np.log1p(-p))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=600_000, help="rows of the impression log")
    parser.add_argument("--model", default="dcn_v2", help="the model")
    parser.add_argument("--dim", type=int, default=8, help="width of the table")
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    parser.add_argument("--world", type=Path, help="folder to keep the market in and to reuse")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.world or Path(temporary)
        if not (root / "world").exists():
            write(WorldConfig(impressions=args.impressions, seed=7), root / "world")
        world, out = root / "world", root / "dataset"
        if not out.exists():
            prepare([world / "impressions"], load(CONTRACT), out, clicks=[world / "clicks"], truth=[world / "truth"])  # fmt: skip
        dataset = PreparedDataset.open(out)
        trained = train(
            dataset, fit(dataset), args.model, model_config={"dim": args.dim},
            config=TrainingConfig(epochs=args.epochs), out=Path(temporary) / "model",
        )  # fmt: skip
        y = dataset.columns("test", [dataset.label])[dataset.label].to_numpy()
        prior = Calibration(
            negatives_kept=dataset.negatives_kept, positive_weight=trained.meta["positive_weight"]
        )
        exact, rng = np.empty(0), np.random.default_rng(0)
        draws = [rng.integers(0, len(y), len(y)) for _ in range(200)]
        print(f"{args.model}, width {args.dim}, {trained.space.table_rows:,} rows, test split of {len(y):,}")
        for rows in FORMATS:
            model = served(trained, rows)
            p = prior.pctr(model.trained.raw_logits_of(dataset, "test"))
            loss = row_loss(y, p)
            exact = loss if rows == "float32" else exact
            relative = [loss[at].mean() / exact[at].mean() - 1 for at in draws]
            low, high = np.quantile(relative, [0.025, 0.975])
            print(
                f"{rows:9s} {model.table_bytes:12,d} bytes of rows   NE {normalized_entropy(y, p):.6f}   "
                f"relative loss {loss.mean() / exact.mean() - 1:+.4%} [{low:+.4%}, {high:+.4%}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
