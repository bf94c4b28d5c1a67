"""Which files of a folder are the splits, and what is said when they are not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clickmill.benchmark import recognize
from clickmill.contract import Dtype, Format
from clickmill.errors import UnreadableData, UsageError


def test_a_csv_of_the_published_columns_is_recognized_one_folder_below(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    place = write_splits(tmp_path / "Frappe_x1", "csv", valid="validation", packed=True)
    found = recognize(tmp_path)
    assert found.dataset is not None
    assert found.dataset.name == "frappe_x1"
    assert found.format is Format.CSV
    assert found.files["validation"] == place / "validation.csv.gz"
    assert list(found.contract.features) == list(found.dataset.fields)


def test_ten_ids_a_line_are_frappe_and_get_its_names(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    found = recognize(write_splits(tmp_path, "libsvm"))
    assert found.dataset is not None
    assert found.dataset.name == "frappe_x1"
    assert found.contract.source.slots == 10
    assert [field.column for field in found.contract.features.values()][:2] == ["f01", "f02"]
    assert found.fields[:2] == ("user", "item")


def test_three_ids_a_line_are_movielens_and_a_prefix_of_the_name_is_fine(tmp_path: Path) -> None:
    for name in ("ml.train.libfm", "ml.validation.libfm", "ml.test.libfm"):
        (tmp_path / name).write_text("1 3:1 4:1 5:1\n-1 3:1 5:1 6:1\n")
    found = recognize(tmp_path)
    assert found.dataset is not None
    assert found.dataset.name == "movielenslatest_x1"
    assert recognize(tmp_path, "none").dataset is None


def test_the_csv_is_taken_where_both_layouts_are(tmp_path: Path, write_splits: Callable[..., Path]) -> None:
    write_splits(tmp_path, "libsvm")
    write_splits(tmp_path, "csv")
    assert recognize(tmp_path).files["train"] == tmp_path / "train.csv"


def test_other_columns_are_data_without_figures_whose_cells_are_words(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("shop;Click;ad place\na;1;top\nb;0;side\n")
    found = recognize(tmp_path)
    assert found.dataset is None
    assert (found.label, found.delimiter) == ("Click", ";")
    features = found.contract.features
    assert list(features) == ["shop", "ad_place"]
    assert features["ad_place"].column == "ad place"
    assert {field.dtype for field in features.values()} == {Dtype.STRING}


def test_a_missing_split_is_told_with_what_there_is(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    (write_splits(tmp_path, "csv") / "valid.csv").unlink()
    with pytest.raises(
        UsageError, match=r"no train, valid and test of one layout.*it holds test.csv, train.csv"
    ):
        recognize(tmp_path)


def test_two_data_sets_below_are_not_guessed_between(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    write_splits(tmp_path / "a", "csv")
    write_splits(tmp_path / "b", "libsvm")
    with pytest.raises(UsageError, match="holds several data sets; name one of"):
        recognize(tmp_path)


def test_two_files_for_one_split_are_not_guessed_between(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    write_splits(tmp_path, "csv")
    (tmp_path / "validation.csv").write_text("label,user\n")
    with pytest.raises(UsageError, match="both look like the validation split"):
        recognize(tmp_path)


def test_a_csv_without_a_header_begins_with_the_label(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("1,2,3,4\n0,5,6,7\n")
    found = recognize(tmp_path)
    assert found.dataset is not None
    assert found.dataset.name == "movielenslatest_x1"
    assert list(found.contract.fields) == ["label", "user_id", "item_id", "tag_id"]
    assert found.contract.source.header is False
    assert recognize(tmp_path, "none").fields == ("f01", "f02", "f03")
    (tmp_path / "test.csv").write_text("1,2,3\n")
    with pytest.raises(UnreadableData, match=r"test.csv, line 1: has 2 ids after the label, train.csv has 3"):
        recognize(tmp_path)


def test_a_csv_of_numbers_whose_first_is_no_label_is_refused(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("17,2,3\n4,5,0\n")
    with pytest.raises(UnreadableData, match=r"train.csv, line 1: '17,2,3' is neither a header"):
        recognize(tmp_path)


def test_splits_of_different_columns_are_refused(tmp_path: Path, write_splits: Callable[..., Path]) -> None:
    (write_splits(tmp_path, "csv") / "test.csv").write_text("label,user\n1,2\n")
    with pytest.raises(UnreadableData, match=r"test.csv, line 1: the columns are 'label,user'"):
        recognize(tmp_path)


def test_lines_of_different_length_are_refused(tmp_path: Path, write_splits: Callable[..., Path]) -> None:
    (write_splits(tmp_path, "libsvm") / "test.libsvm").write_text("1 2:1 3:1\n")
    with pytest.raises(UnreadableData, match=r"has 2 ids after the label, train.libsvm has 10"):
        recognize(tmp_path)


def test_data_that_are_not_what_was_asked_for_are_refused(
    tmp_path: Path, write_splits: Callable[..., Path]
) -> None:
    write_splits(tmp_path, "csv")
    with pytest.raises(UnreadableData, match="is not laid out as movielenslatest_x1"):
        recognize(tmp_path, "movielenslatest_x1")
    with pytest.raises(UsageError, match="no benchmark is called 'criteo'; there are frappe_x1"):
        recognize(tmp_path, "criteo")


def test_a_label_nobody_can_find_is_asked_for(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("user,item\n1,2\n")
    with pytest.raises(UnreadableData, match="Rename the label's to `label`"):
        recognize(tmp_path)
