"""Files that somebody else has split become a dataset as they are."""

from pathlib import Path

import pytest

from clickmill.contract import FeatureContract, loads
from clickmill.data import PreparedDataset, PrepareOptions, prepare_splits
from clickmill.errors import DegenerateLabels, QuarantineOverflow, UsageError

EXACT = PrepareOptions(max_quarantine_share=0.0)


@pytest.fixture
def contract() -> FeatureContract:
    return loads(
        "name: given\nsource: {format: csv}\nfields:\n"
        "  label: {role: label, dtype: int64, required: true}\n"
        "  user: {role: user, dtype: int64, required: true, encoding: {kind: vocabulary}}\n"
    )


def write(folder: Path, name: str, rows: list[tuple[object, object]]) -> Path:
    path = folder / f"{name}.csv"
    path.write_text("label,user\n" + "".join(f"{label},{user}\n" for label, user in rows))
    return path


def test_every_row_stays_in_its_split_and_in_its_place(tmp_path: Path, contract: FeatureContract) -> None:
    given = {
        "train": [(1, 30), (0, 10), (1, 20), (0, 30)],
        "validation": [(0, 2), (1, 1)],
        "test": [(1, 9), (0, 9), (0, 8)],
    }
    files = {name: write(tmp_path, name, rows) for name, rows in given.items()}
    dataset = prepare_splits(files, contract, tmp_path / "out", options=EXACT)
    for name, rows in given.items():
        table = dataset.columns(name, ["label", "user"])
        assert list(zip(*table.to_pydict().values(), strict=True)) == rows
        info = dataset.meta.splits[name]
        assert (info.rows, info.clicks) == (len(rows), sum(label for label, _ in rows))
    assert dataset.splits == ("train", "validation", "test")
    assert dataset.meta.quality.rows == 9
    assert PreparedDataset.open(tmp_path / "out").contract == contract


def test_a_broken_row_is_named_with_its_file_and_leaves_what_was_there(
    tmp_path: Path, contract: FeatureContract
) -> None:
    good = {name: write(tmp_path, name, [(1, 1), (0, 2)]) for name in ("train", "test")}
    before = prepare_splits(good, contract, tmp_path / "out", options=EXACT)
    write(tmp_path, "test", [(1, 1), (0, "seven"), (0, 3)])
    with pytest.raises(QuarantineOverflow) as caught:
        prepare_splits(good, contract, tmp_path / "out", options=EXACT)
    assert "test.csv: 1 of 3 rows break the contract" in str(caught.value)
    assert "field `user`" in str(caught.value)
    assert "it is row 1 with seven" in str(caught.value)
    assert PreparedDataset.open(tmp_path / "out").meta == before.meta
    assert (tmp_path / "out.quarantine.test.parquet").is_file()


def test_a_split_of_one_class_is_refused_by_name(tmp_path: Path, contract: FeatureContract) -> None:
    files = {"train": write(tmp_path, "train", [(1, 1), (0, 2)]), "test": write(tmp_path, "test", [(0, 1)])}
    with pytest.raises(DegenerateLabels, match="split test: no click in 1 rows"):
        prepare_splits(files, contract, tmp_path / "out", options=EXACT)


def test_without_train_nothing_can_be_learned(tmp_path: Path, contract: FeatureContract) -> None:
    with pytest.raises(UsageError, match="no files for the train split; given were test"):
        prepare_splits({"test": write(tmp_path, "test", [(1, 1), (0, 2)])}, contract, tmp_path / "out")
