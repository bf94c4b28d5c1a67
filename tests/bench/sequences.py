"""Real behaviour sequences: does a model that reads the history in the light of the candidate rank the next item better?

    python tests/bench/sequences.py [--sample beauty|games] [--models lr,fm,...] [--seeds 3] [--set din.dim=16] [--train l2=0.5]

Amazon Beauty (5-core, with item attributes) and Amazon Games (ids only), read from CLICKMILL_SAMPLES. Leave-last-out: per user the last
item is for the test, the one before it for validation (of some users for calibration, which this bench does not use), and each earlier
one but the first is a training positive; its history is what came before, at most 20 items. One negative per positive, with the same
history: an item drawn uniformly, by a seed, from those the user never touched, in training as in the test. So popularity alone already
tells positives from negatives, for every model alike. No user id, no clock: the sample has none, and time order holds within users only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ladder import Trial, by_model, parsed, report, trial

from clickmill.contract import loads
from clickmill.data import CutTimes, PreparedDataset, PrepareOptions, prepare
from clickmill.features import fit
from clickmill.models import MODELS
from clickmill.training import TrainingConfig

SAMPLES = Path(os.environ.get("CLICKMILL_SAMPLES", Path(__file__).parents[3] / "shared" / "data"))
HISTORY = 20
NEGATIVES_SEED = 0
DAYS = {"train": 1, "validation": 2, "calibration": 3, "test": 4}
"""The sample has no clock: rows get a day of January 1970 by their part."""

ATTRIBUTES = ("first", "last")
"""An item's attributes are a list of brand and categories; its first and its last become a field each."""

CONTRACT = """
name: sequences
fields:
  event_time: {role: event_time, dtype: timestamp, required: true}
  user: {role: metadata, dtype: int64}
  label: {role: label, dtype: int64, required: true}
"""
FIELD = """
  {name}: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, min_count: 1}}}}
  history_{name}:
    {{role: sequence, dtype: int64_list, encoding: {{kind: list, max_length: {length}, items: {{kind: vocabulary, shares: {name}}}}}}}
"""


@dataclass(frozen=True)
class Sequences:
    """Everybody's items in order: two arrays (n,), sorted by user and then time, users from 0 on without gaps."""

    user: np.ndarray
    item: np.ndarray
    attributes: dict[str, np.ndarray]
    """Name to the attribute (items + 1,) of each item number; 0 for none."""

    @property
    def lengths(self) -> np.ndarray:
        """(users,) items of each."""
        return np.bincount(self.user)


def beauty() -> Sequences:
    """Amazon Beauty: a line per user, the number of the user and then the items in order."""
    folder = SAMPLES / "amazon_beauty"
    with gzip.open(folder / "Beauty.txt.gz", "rt") as lines:
        items = [np.array(line.split()[1:], np.int64) for line in lines]
    with gzip.open(folder / "Beauty_item2attributes.json.gz", "rt") as text:
        known = json.load(text)
    number = np.array([int(item) for item in known])
    item = np.concatenate(items)
    attributes = {}
    for name, place in zip(ATTRIBUTES, (0, -1), strict=True):
        attributes[name] = np.zeros(max(item.max(), number.max()) + 1, np.int64)
        attributes[name][number] = [values[place] for values in known.values()]
    return Sequences(np.repeat(np.arange(len(items)), [len(i) for i in items]), item, attributes)


def games() -> Sequences:
    """Amazon Games: a line per event, user and item, in order within users. Users of fewer than four items, who leave nothing to train
    on after validation and test, are left out."""
    with gzip.open(SAMPLES / "amazon_games" / "Video.txt.gz", "rt") as lines:
        pairs = np.loadtxt(lines, np.int64)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    user = np.unique(pairs[:, 0], return_inverse=True)[1]
    kept = np.bincount(user)[user] >= 4
    return Sequences(np.unique(user[kept], return_inverse=True)[1], pairs[kept, 1], {})


def rows(sequences: Sequences) -> pa.Table:
    """Positives and their negatives, split by day."""
    user, item, lengths = sequences.user, sequences.item, sequences.lengths
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    place = np.arange(len(item)) - first[user]
    positive = np.flatnonzero(place > 0)  # something came before
    left = lengths[user[positive]] - 1 - place[positive]
    day = np.where(left == 0, DAYS["test"], np.where(left == 1, DAYS["validation"], DAYS["train"]))
    # Our splits want a calibration part; every tenth user's second-to-last event is enough of one.
    day[(left == 1) & (user[positive] % 10 == 0)] = DAYS["calibration"]
    negative = never_touched(user, item, user[positive], np.random.default_rng(NEGATIVES_SEED))

    event = np.concatenate([positive, positive])
    candidate = np.concatenate([item[positive], negative])
    length = np.minimum(place[event], HISTORY)
    offsets = np.concatenate([[0], np.cumsum(length)])
    # The places of each history, one after the other: from event - length to event - 1.
    past = np.arange(offsets[-1]) + np.repeat(event - length - offsets[:-1], length)
    columns = {
        "event_time": pa.array(np.concatenate([day, day]) * 86_400_000_000, pa.timestamp("us", "UTC")),
        "user": user[event],
        "label": np.repeat([1, 0], len(positive)),
    }
    for name, values in {"item": np.arange(item.max() + 1), **sequences.attributes}.items():
        columns[name] = values[candidate]
        columns[f"history_{name}"] = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(values[item[past]])
        )
    return pa.table(columns)


def never_touched(
    user: np.ndarray, item: np.ndarray, whom: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """For each user of `whom` (n,) an item drawn uniformly from those that do not occur with him in (user, item), at any time."""
    catalogue, size = np.unique(item), item.max() + 1
    touched = np.unique(user * size + item)
    drawn = rng.choice(catalogue, len(whom))
    while (taken := np.isin(whom * size + drawn, touched)).any():
        drawn[taken] = rng.choice(catalogue, taken.sum())
    return drawn


def prepared(sequences: Sequences, root: Path) -> PreparedDataset:
    """The sample through our own door: a contract, a Parquet file, a prepared dataset."""
    pq.write_table(rows(sequences), root / "rows.parquet")
    contract = loads(
        CONTRACT
        + "".join(FIELD.format(name=name, length=HISTORY) for name in ("item", *sequences.attributes))
    )
    cuts = {split: datetime(1970, 1, 1 + day, tzinfo=UTC) for split, day in DAYS.items() if split != "train"}
    return prepare(
        [root / "rows.parquet"],
        contract,
        root / "dataset",
        options=PrepareOptions(cut_times=CutTimes(**cuts)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", choices=("beauty", "games"), default="beauty", help="which sequences")
    parser.add_argument(
        "--models", default=",".join(MODELS), help="which models, comma-separated, from the bottom up"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings per model")
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODEL.SETTING=VALUE", help="hyperparameter"
    )
    parser.add_argument(
        "--train", action="append", default=[], metavar="SETTING=VALUE", help="setting of the training"
    )
    args = parser.parse_args()
    options = by_model(args.set)
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepared({"beauty": beauty, "games": games}[args.sample](), Path(folder))
        space = fit(dataset)
        test = dataset.columns("test", ["label", "user"])
        y, user = test["label"].to_numpy(), test["user"].to_numpy()
        print({split: f"{info.rows:,}" for split, info in dataset.meta.splits.items()}, flush=True)
        found: dict[str, list[Trial]] = {}
        for name in args.models.split(","):
            for seed in range(args.seeds):
                config = TrainingConfig(**{**RECIPE, **parsed(args.train), "seed": seed})
                done = trial(name, dataset, space, options.get(name, {}), config)
                found.setdefault(name, []).append(done)
                print(done, flush=True)
        print("\n".join(report(y, user, {name: [t.p for t in trials] for name, trials in found.items()})))


RECIPE = {
    "epochs": 20, "batch_size": 1024, "evaluations_per_epoch": 3, "patience": 4, "rate_decay": 0.3, "decay_patience": 1,
}  # fmt: skip

if __name__ == "__main__":
    main()
