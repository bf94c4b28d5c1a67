"""Day after day: a run that starts from yesterday's champion beside one that starts from nothing.

    python tests/bench/warm.py [--impressions 1000000] [--days 12] [--window 7] [--runs 3] [--model dcn_v2] [--out FOLDER]

Each run trains on the logs of the last `window` days. The champion of the first is trained from scratch; every later run is made twice on
the same data: from scratch, and from the run before (grown vocabulary, old rows with their weights and Adagrad sums), which then is the
champion of the day after. NE is that of the validation split, measured `--evaluations` times an epoch; told is how much training each
needed to reach the best NE that the run from scratch ever reached, in rows and in seconds of training (without encoding and evaluation).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from clickmill.contract import load
from clickmill.data import PreparedDataset, PrepareOptions, prepare
from clickmill.data.splits import Fractions
from clickmill.data.world import WorldConfig, write
from clickmill.features import fit
from clickmill.training import TrainedModel, TrainingConfig, train

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"


def day_window(root: Path, first: int, days: int, negatives_kept: float) -> PreparedDataset:
    """The logs of so many days from `first` on, prepared, or opened where an earlier run left them."""
    out = root / f"days-{first}-{first + days - 1}"
    if not out.exists():
        logs = sorted((root / "world" / "impressions").iterdir())[first : first + days]
        options = PrepareOptions(
            window=timedelta(hours=72), negatives_kept=negatives_kept,
            fractions=Fractions(train=0.8, validation=0.1, calibration=0.05, test=0.05),
        )  # fmt: skip
        prepare(
            logs, load(CONTRACT), out,
            clicks=[root / "world" / "clicks"], truth=[root / "world" / "truth"], options=options,
        )  # fmt: skip
    return PreparedDataset.open(out)


def until(trained: TrainedModel, ne: float, rows: int) -> tuple[float, float]:
    """Rows and seconds of training until an evaluation found at most `ne`; infinite where none did."""
    before, seconds = 0.0, 0.0
    for record in trained.meta["history"]:
        seconds += (record["epoch"] - before) * rows / record["samples_per_second"]
        before = record["epoch"]
        if record["ne"] <= ne:
            return before * rows, seconds
    return float("inf"), float("inf")


def told(trained: TrainedModel) -> str:
    return " ".join(f"{record['epoch']:.2f}:{record['ne']:.4f}" for record in trained.meta["history"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=1_000_000, help="rows of the whole log")
    parser.add_argument("--days", type=int, default=12, help="days of the whole log")
    parser.add_argument("--window", type=int, default=7, help="days a run trains on")
    parser.add_argument("--runs", type=int, default=3, help="daily runs after the first")
    parser.add_argument("--model", default="dcn_v2", help="the model")
    parser.add_argument("--epochs", type=int, default=6, help="most passes from scratch")
    parser.add_argument("--evaluations", type=int, default=8, help="evaluations per epoch")
    parser.add_argument("--negatives-kept", type=float, default=0.5, help="share of non-clicks kept")
    parser.add_argument("--out", type=Path, help="folder to keep the market and the models in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.out or Path(temporary)
        if not (root / "world").exists():
            write(WorldConfig(impressions=args.impressions, days=args.days, seed=7), root / "world")
        config = TrainingConfig(
            epochs=args.epochs, evaluations_per_epoch=args.evaluations, patience=2 * args.evaluations
        )

        def trained(name: str, dataset: PreparedDataset, start: TrainedModel | None = None) -> TrainedModel:
            settings: dict[str, Any] = {"config": config, "start": start, "out": root / "models" / name}
            return train(dataset, fit(dataset), args.model, **settings)

        first = day_window(root, 0, args.window, args.negatives_kept)
        champion = trained("day-0", first)
        print(f"first champion, from scratch: {told(champion)}", flush=True)
        print(f"{'days':>6s} {'rows':>8s} {'scratch best NE':>16s} {'its rows':>9s} {'its s':>6s} {'warm rows':>10s} {'warm s':>7s} {'warm best NE':>13s} {'of rows':>8s} {'of s':>6s}")  # fmt: skip
        for run in range(1, args.runs + 1):
            dataset = day_window(root, run, args.window, args.negatives_kept)
            rows = dataset.meta.splits["train"].rows
            scratch = trained(f"scratch-{run}", dataset)
            champion = trained(f"day-{run}", dataset, champion)
            goal = min(record["ne"] for record in scratch.meta["history"])
            ours = min(record["ne"] for record in champion.meta["history"])
            (cold_rows, cold_s), (warm_rows, warm_s) = until(scratch, goal, rows), until(champion, goal, rows)
            print(
                f"{run}-{run + args.window - 1:<4d} {rows:8,d} {goal:16.4f} {cold_rows:9,.0f} {cold_s:6.1f} {warm_rows:10,.0f} {warm_s:7.1f} "
                f"{ours:13.4f} {cold_rows / warm_rows:8.1f} {cold_s / warm_s:6.1f}",
                flush=True,
            )
            print(f"       scratch {told(scratch)}\n       warm    {told(champion)}", flush=True)


if __name__ == "__main__":
    main()
