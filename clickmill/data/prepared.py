"""A prepared dataset on disk: splits as Parquet, the contract they keep, and where they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from clickmill.contract import FeatureContract, load
from clickmill.data.attribution import JoinReport, label_of
from clickmill.data.delay import Ripeness
from clickmill.data.online import OnlineFeatures
from clickmill.data.quality import QualityReport
from clickmill.errors import UnreadableData, UsageError

DATASET, CONTRACT, ONLINE_FOLDER = "dataset.json", "contract.yaml", "online"


class SplitInfo(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One split as it was written."""

    rows: int
    """Impressions."""
    clicks: int
    """Of them clicked."""
    start: datetime | None = None
    """Earliest event time; absent where the contract has none."""
    end: datetime | None = None
    """Latest event time."""
    negatives_kept: float = 1.0
    """Share of the non-clicks that is left in this split; below 1 in calibration and test only where the source itself was
    sampled and gave no separate test files."""


class DatasetMeta(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Content of dataset.json."""

    contract_digest: str
    """Digest of the contract the rows keep."""
    data_digest: str
    """sha256 over the content of all source files (`files.digest`)."""
    negatives_kept: float
    """Share of the non-clicks that is left in train and validation: the source's own sampling times ours."""
    seed: int
    """Seed of the negative sampling."""
    splits: dict[str, SplitInfo]
    """By name, in order of time."""
    join: JoinReport | None = None
    """What became of the click log; absent where the source has labels."""
    ripeness: Ripeness | None = None
    """What was known at the moment of learning, where something is done about clicks still to come."""
    quality: QualityReport
    """What the contract check found."""


@dataclass(frozen=True)
class PreparedDataset:
    """A folder with dataset.json, contract.yaml and a folder of Parquet parts per split, in order of event time; also `online/`,
    what the online store is loaded with, where the contract has fields that are kept there."""

    root: Path
    contract: FeatureContract
    meta: DatasetMeta

    @classmethod
    def open(cls, path: Path | str) -> PreparedDataset:
        """Raises UnreadableData when the folder is no prepared dataset or its contract was altered."""
        root = Path(path)
        try:
            meta = DatasetMeta.model_validate_json((root / DATASET).read_text())
        except FileNotFoundError:
            raise UnreadableData(
                f"{root}: is not a prepared dataset (no {DATASET}); make one with `clickmill data prepare`"
            ) from None
        except (OSError, ValidationError) as error:
            raise UnreadableData(
                f"{root / DATASET}: cannot be read ({error}); prepare the data again"
            ) from error
        contract = load(root / CONTRACT)
        if contract.digest != meta.contract_digest:
            raise UnreadableData(
                f"{root / CONTRACT}: was altered after the data were prepared by it; prepare the data again"
            )
        return cls(root, contract, meta)

    @property
    def negatives_kept(self) -> float:
        """Share of the non-clicks left in train and validation."""
        return self.meta.negatives_kept

    @property
    def label(self) -> str:
        """Name of the label column."""
        return label_of(self.contract)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are, in order of time."""
        return tuple(self.meta.splits)

    @property
    def online(self) -> OnlineFeatures:
        """What the online store is loaded with; raises UsageError when the contract has no field that is kept there."""
        if not self.contract.entities:
            raise UsageError(
                f"contract `{self.contract.name}` has no field that an online store keeps; give a field `aggregate` or `lookup_by`"
            )
        return OnlineFeatures.open(self.root / ONLINE_FOLDER)

    def path(self, split: str) -> Path:
        """Folder of the split's Parquet parts; raises UsageError for a split there is not."""
        if split not in self.meta.splits:
            raise UsageError(f"{self.root}: has no split {split!r}; it has {', '.join(self.meta.splits)}")
        return self.root / split

    def parts(self, split: str) -> tuple[Path, ...]:
        """The split's Parquet files, in order of time."""
        return tuple(sorted(self.path(split).glob("part-*.parquet")))

    def scan(
        self, split: str, *, columns: Sequence[str] | None = None, batch_rows: int = 65_536
    ) -> Iterator[pa.Table]:
        """The rows in order of event time, at most `batch_rows` at a time; memory stays bounded."""
        for part in self.parts(split):
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(
                    batch_rows, columns=None if columns is None else list(columns)
                ):
                    yield pa.Table.from_batches([batch])

    def columns(self, split: str, names: Sequence[str]) -> pa.Table:
        """Whole columns of a split in memory; raises UsageError for a column there is not."""
        known = pq.read_schema(self.parts(split)[0]).names
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(f"{self.root}/{split}: has no column {unknown[0]!r}; it has {', '.join(known)}")
        return pa.concat_tables([pq.read_table(part, columns=list(names)) for part in self.parts(split)])
