from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.data.world import WorldConfig, WorldReport, write

SMALL = WorldConfig(
    impressions=30_000, days=4, n_users=1_000, n_ads=300, n_advertisers=30, n_sites=20, seed=11
)


class WrittenWorld:
    def __init__(self, root: Path, report: WorldReport) -> None:
        self.root, self.report = root, report

    def files(self, log: str) -> list[Path]:
        return sorted((self.root / log).rglob("*.parquet"))

    def table(self, log: str) -> pa.Table:
        return pa.concat_tables([pq.ParquetFile(path).read() for path in self.files(log)])

    def frame(self, log: str) -> pd.DataFrame:
        return self.table(log).to_pandas()

    @cached_property
    def _labelled(self) -> pd.DataFrame:
        rows = self.frame("impressions").merge(self.frame("truth"), on="impression_id", validate="1:1")
        return rows.assign(clicked=rows["impression_id"].isin(self.frame("clicks")["impression_id"]))

    def labelled(self) -> pd.DataFrame:
        """Impressions with their truth and with `clicked`, joined by pandas."""
        return self._labelled


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WrittenWorld:
    root = tmp_path_factory.mktemp("market") / "world"
    return WrittenWorld(root, write(SMALL, root))


@pytest.fixture(scope="session")
def big_world(tmp_path_factory: pytest.TempPathFactory) -> WrittenWorld:
    """Enough clicks (about 7,000) for statements about rates."""
    root = tmp_path_factory.mktemp("market") / "world"
    return WrittenWorld(root, write(WorldConfig(impressions=200_000, n_users=5_000, n_ads=800, seed=5), root))
