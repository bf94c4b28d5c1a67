"""The market of `clickmill experiment demo`: logs of its first days, two bundles trained on them, and the requests of its later days."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from clickmill.command.console import Bars
from clickmill.command.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from clickmill.bundle import Bundle
    from clickmill.contract import FeatureContract
    from clickmill.data import PreparedDataset

SEEN = (1.0, 0.72, 0.55, 0.44, 0.36, 0.3)
"""P(a user looks at slot 1, 2, ...) in the market's own logs."""
SLOTS = 3
"""Of the six ads that the market showed an experiment shows the best three: a ranking has to choose."""
DAYS_BEFORE, DAYS = 5, 12
"""The bundles learn from the first five days; the experiment runs the seven after them, a whole week."""
START = datetime(2026, 1, 5, tzinfo=UTC)
LATER = START + timedelta(days=DAYS_BEFORE)
PER_USER = 20
"""Impressions per user in twelve days, in all six slots."""
HEAD = 500
"""Flattens the most eager 500th of the users, however many there are: a small market's users shall come back as a large one's do, or last
month's log would promise more than a week can keep."""
ARMS = {"control": "lr", "treatment": "dcn_v2"}
"""The question that an ads team has: is it worth going from a linear model to a deep one?"""
EPOCHS, BATCH = 2, 2_048
"""Of both trainings: little, since a demo shall not take long."""
NEGATIVES_KEPT = 0.5


def simulate(out: Path, impressions: int, seed: int) -> None:
    """A market of twelve days. `out/impressions`, `out/clicks` and `out/truth`, by day."""
    from clickmill.data.world import WorldConfig, write

    users = max(impressions // PER_USER, 2_000)
    config = WorldConfig(
        impressions=impressions,
        seed=seed,
        start=START,
        days=DAYS,
        n_users=users,
        user_zipf_head=users / HEAD,
        slots_min=len(SEEN),
        slots_max=len(SEEN),
        examination=SEEN,
    )
    with Bars() as bars:
        write(config, out, progress=bars)


def set_apart(world: Path) -> None:
    """Move the later days' impressions to `world/later`: no training shall see them."""
    for folder in sorted((world / "impressions").iterdir()):
        if folder.name >= f"date={LATER:%Y-%m-%d}":
            (world / "later").mkdir(exist_ok=True)
            shutil.move(folder, world / "later" / folder.name)


def log_of(world: Path, part: str, columns: str) -> pa.Table:
    """Impressions of a folder (`impressions` or `later`) in the slots that an experiment has, in the order of time: `user_id`, `time`,
    `clicked`, `revenue` (a click pays its bid) and `columns`."""
    import duckdb

    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found: pa.Table = connection.sql(
            f"SELECT user_id, event_time AS time, clicked, clicked * bid::DOUBLE AS revenue, {columns} FROM (SELECT i.*, "
            f"(c.impression_id IS NOT NULL)::TINYINT AS clicked FROM read_parquet('{world}/{part}/*/*/*.parquet', hive_partitioning = false) i "
            f"LEFT JOIN (SELECT DISTINCT impression_id FROM read_parquet('{world}/clicks/*/*/*.parquet', hive_partitioning = false)) c "
            f"USING (impression_id)) WHERE position <= {SLOTS} ORDER BY time, impression_id"
        ).to_arrow_table()
    return found


def prepared(out: Path, seed: int, contract: Path) -> PreparedDataset:
    """The first days as a dataset."""
    from clickmill import contract as contracts
    from clickmill.data import Fractions, PrepareOptions, prepare

    world = out / "world"
    options = PrepareOptions(
        fractions=Fractions(train=0.75, validation=0.05, calibration=0.1, test=0.1),
        negatives_kept=NEGATIVES_KEPT,
        window="72h",  # clicks of this market come up to a week late; at 72 hours under 1 % of them are lost
        seed=seed,
    )
    with Bars() as bars:
        return prepare(
            world / "impressions",
            contracts.load(contract),
            out / "dataset",
            clicks=world / "clicks",
            truth=world / "truth",
            options=options,
            progress=bars,
        )


def bundle(out: Path, dataset: PreparedDataset, arm: str, seed: int) -> Bundle:
    """Train an arm's model, and put its bundle into the store that is served from."""
    start_tensorflow()
    from clickmill import bundle as bundles
    from clickmill import features, training

    config = training.TrainingConfig(epochs=EPOCHS, batch_size=BATCH, seed=seed)
    with Bars() as bars:
        space = features.fit(dataset)
        trained = training.train(
            dataset, space, ARMS[arm], config=config, out=out / "training" / arm, progress=bars
        )
        made = bundles.build_bundle(
            trained, dataset, out / "bundles" / arm, seed=seed, resamples=20, progress=bars
        )
    bundles.Store(out / "store").add(out / "bundles" / arm)
    return made


@dataclass(frozen=True, eq=False)
class Traffic:
    """Requests of the later days, of `SLOTS` and more ads each, in the order of time."""

    rows: pa.Table
    """(n,) candidates with all that the contract reads, `request_id`, `event_time` and `bid`."""
    request: np.ndarray
    """(n,) number of the request, from 0, ascending."""
    relevance: np.ndarray
    """(n,) P(click | seen), the market's own."""

    @property
    def requests(self) -> int:
        """How many."""
        return int(self.request[-1]) + 1


def traffic(out: Path, contract: FeatureContract) -> Traffic:
    """All requests of the later days that had more ads than slots."""
    import duckdb
    import numpy as np

    world = out / "world"
    fields = ", ".join(f"i.{name}" for name in contract.inputs)
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows: pa.Table = connection.sql(
            f"SELECT i.request_id, i.bid, {fields}, t.true_pctr FROM read_parquet('{world}/later/*/*/*.parquet', hive_partitioning = false) i "
            f"JOIN read_parquet('{world}/truth/*/*/*.parquet', hive_partitioning = false) t USING (impression_id) "
            f"QUALIFY count(*) OVER (PARTITION BY i.request_id) > {SLOTS} ORDER BY i.event_time, i.request_id, i.position"
        ).to_arrow_table()
    ids = rows["request_id"].to_numpy()
    number = np.cumsum(np.r_[False, ids[1:] != ids[:-1]])
    rows = rows.combine_chunks()
    seen = np.array(SEEN)[rows["position"].to_numpy() - 1]
    return Traffic(rows, number, rows["true_pctr"].to_numpy().astype(np.float64) / seen)


def scores(arm: str, model: Bundle, given: Traffic) -> np.ndarray:
    """(n,) float64 pCTR of all candidates in the slot that a ranking asks for. By TensorFlow, which takes a quarter of the twin's time for
    many rows at once; the endpoint runs the twin, and the demo tells how many rankings come out the same."""
    import numpy as np
    import pyarrow as pa

    from clickmill.bundle.export import PCTR
    from clickmill.features import tensors

    contract = model.contract
    names, parts = list(contract.inputs), []
    table = given.rows.select(names)
    top = pa.array(np.full(len(table), contract.inputs["position"].fill, np.int64))
    table = table.set_column(names.index("position"), "position", top)
    with Bars() as bars:
        bars.start(f"score, {arm}", len(table), "rows")
        for begin in range(0, len(table), 8_192):
            part = table.slice(begin, 8_192)
            parts.append(model.predict(tensors.from_arrow(part, contract))[PCTR])
            bars.advance(len(part))
        bars.finish()
    return np.concatenate(parts).astype(np.float64)
