"""Delayed clicks on the market with known truth: who forecasts the clicks of tomorrow, when many of today's are not known yet?

    python tests/bench/delay.py [--impressions 1000000] [--seeds 7,8,9] [--models lr]

A market whose clicks come slowly (three quarters of them after two days or so); attribution window five days. Learned as of day 13 of 14:
of earlier impressions only what was known then. Judged on day 14: against the clicks it will have within the window, and against as
many of them as the market expects (its true probabilities times the share of clicks within the window), which leaves out the chance
in which impressions were clicked. Each seed is a market of its own.

    hindsight        labels that know all clicks: what no learner has, the mark for the others
    naive            labels as they are known
    waiting window   impressions of less than five days left out (`wait`)
    delay weights    known clicks weighted by the estimated distribution of the delay (`delayed_clicks: delay_weights`)
    fake negatives   the stream of non-clicks and later clicks, weighted (`delayed_clicks: fake_negatives`)

The weekday is no feature here. Models are raw: their prior corrected, no calibrator. Intervals per seed are 95 % by bootstrap over rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from clickmill.calibration import Calibration
from clickmill.contract import FeatureContract, load
from clickmill.data import Fractions, PreparedDataset, PrepareOptions, prepare
from clickmill.data.world import ClickDelay, DelayComponent, WorldConfig, write
from clickmill.evaluation import calibration_ratio, normalized_entropy
from clickmill.features import fit
from clickmill.training import TrainingConfig, train

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
SLOW = ClickDelay(
    components=(
        DelayComponent(share=0.2, median_s=60, sigma=1.1),
        DelayComponent(share=0.05, median_s=7_200, sigma=1.0),
        DelayComponent(share=0.75, median_s=50 * 3_600, sigma=0.5),
    ),
    max_s=10 * 86_400,
)
WINDOW = timedelta(days=5)
DAYS, LEARNED = 14, 13


def contract_of_the_bench() -> FeatureContract:
    """The market's, without the weekday: in two weeks it tells the date, and with the date how ripe a label is."""
    whole = load(CONTRACT)
    return whole.model_copy(update={"fields": {n: f for n, f in whole.fields.items() if n != "weekday"}})


def options_of(treatment: str, world: WorldConfig, negatives_kept: float) -> PrepareOptions:
    as_of = world.start + timedelta(days=LEARNED)
    chosen = {
        "window": WINDOW,
        "as_of": as_of,
        "fractions": Fractions(train=0.75, validation=0.04, calibration=0.01, test=0.2),
        "negatives_kept": negatives_kept,
    }
    own = {
        "naive": {},
        "waiting window": {"wait": WINDOW},
        "delay weights": {"delayed_clicks": "delay_weights"},
        "fake negatives": {"delayed_clicks": "fake_negatives"},
    }
    return PrepareOptions.model_validate({**chosen, **own[treatment]})


def hindsight(
    logs: Path, folder: Path, world: WorldConfig, like: PreparedDataset, kept: float
) -> PreparedDataset:
    """The same rows in the same splits, with labels that know all."""
    from clickmill.data import CutTimes

    starts = {name: info.start for name, info in like.meta.splits.items()}
    cuts = CutTimes(
        validation=starts["validation"],
        calibration=starts["calibration"],
        test=world.start + timedelta(days=LEARNED),
    )
    options = PrepareOptions(window=WINDOW, cut_times=cuts, negatives_kept=kept)
    return prepare(
        [logs / "impressions"],
        contract_of_the_bench(),
        folder,
        clicks=[logs / "clicks"],
        truth=[logs / "truth"],
        options=options,
    )


def share_within_window() -> float:
    """P(delay <= window) of the slow clicks."""
    from scipy.stats import norm

    return sum(
        c.share * float(norm.cdf(np.log(WINDOW.total_seconds() / c.median_s) / c.sigma))
        for c in SLOW.components
    )


def interval(y: np.ndarray, p: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of sum p / sum y, rows drawn with replacement (their counts as Poisson)."""
    rng = np.random.default_rng(seed)
    drawn = [rng.poisson(1.0, len(y)).astype(np.float64) for _ in range(200)]
    low, high = np.quantile([w @ p / (w @ y) for w in drawn], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impressions", type=int, default=1_000_000, help="rows of each impression log")
    parser.add_argument("--seeds", default="7,8,9", help="one market each, comma-separated")
    parser.add_argument("--models", default="lr", help="comma-separated")
    parser.add_argument(
        "--negatives-kept", type=float, default=1.0, help="share of the non-clicks learned from"
    )
    parser.add_argument("--epochs", type=int, default=4, help="most passes over the train split")
    args = parser.parse_args()
    tally: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for seed in map(int, args.seeds.split(",")):
        world = WorldConfig(impressions=args.impressions, days=DAYS, seed=seed, click_delay=SLOW)
        with tempfile.TemporaryDirectory() as temporary:
            logs, folder = Path(temporary) / "world", Path(temporary)
            write(world, logs)
            kept = args.negatives_kept
            treatments = ("naive", "waiting window", "delay weights", "fake negatives")
            datasets = {
                name: prepare(
                    [logs / "impressions"], contract_of_the_bench(), folder / name.replace(" ", "-"), clicks=[logs / "clicks"], truth=[logs / "truth"],
                    options=options_of(name, world, kept),
                )
                for name in treatments
            }  # fmt: skip
            datasets["hindsight"] = hindsight(logs, folder / "hindsight", world, datasets["naive"], kept)
            for model in args.models.split(","):
                for name in ("hindsight", *treatments):
                    began, dataset = time.perf_counter(), datasets[name]
                    config = TrainingConfig(epochs=args.epochs, seed=seed)
                    out = folder / "out" / f"{model}-{name}"
                    trained = train(dataset, fit(dataset), model, config=config, out=out)
                    p = Calibration(negatives_kept=dataset.negatives_kept, positive_weight=1.0).pctr(
                        trained.raw_logits_of(dataset, "test")
                    )
                    y = dataset.columns("test", [dataset.label])[dataset.label].to_numpy().astype(np.float64)
                    ratio, ne = calibration_ratio(y, p), normalized_entropy(y, p)
                    low, high = interval(y, p, seed)
                    truth = dataset.columns("test", ["true_pctr"])["true_pctr"].to_numpy().astype(np.float64)
                    expected = p.sum() / (truth.sum() * share_within_window())
                    info = dataset.meta.splits["train"]
                    tally[model, name].append((ratio, expected, ne))
                    print(
                        f"seed {seed} {model:7s} {name:15s} calibration ratio {ratio:.4f} ({low:.4f} to {high:.4f}), to expected clicks {expected:.4f}  NE {ne:.4f}  "
                        f"train {info.rows:,} rows, {info.clicks:,} clicks; test {len(y):,} rows, {int(y.sum()):,} clicks  "
                        f"epoch {trained.meta['best_epoch']:g}  {time.perf_counter() - began:.0f} s",
                        flush=True,
                    )
    print("over seeds, mean and range:")
    for (model, name), found in tally.items():
        told = [
            f"{column.mean():.4f} ({column.min():.4f} to {column.max():.4f})" for column in np.array(found).T
        ]
        print(
            f"  {model:7s} {name:15s} calibration ratio {told[0]}, to expected clicks {told[1]}  NE {told[2]}"
        )


if __name__ == "__main__":
    main()
