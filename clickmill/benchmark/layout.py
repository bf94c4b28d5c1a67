"""A folder of published splits: which file is which, how they are written, which benchmark they are, and the contract they keep.

    DIR[/one folder below]/train.csv  valid.csv  test.csv            first line: label and field names (reczoo's BARS); without
                                                                     such a line the label comes first
    DIR[/one folder below]/train.libsvm  valid.libsvm  test.libsvm   `label id:1 id:1 ...`, one id per field (the AFN repository)

`validation` and `val` are names of valid too, a prefix before a dot is fine (frappe.train.libfm), and so is `.gz` behind. Where both
layouts are there, the CSV is taken: it has the fields' names.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clickmill.benchmark.published import DATASETS, Dataset
from clickmill.contract import ContractField, Dtype, FeatureContract, Format, Role, Source, Vocabulary
from clickmill.errors import UnreadableData, UsageError

SPLITS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
"""Name in a file to the split's name here."""
LABELS = ("label", "click", "clicked", "is_click", "clk", "y", "target")
"""Names a label column goes by, the likeliest first."""
_SUFFIXES = ("csv", "libsvm", "libfm", "svm", "txt")
_FILE = re.compile(
    rf"(?:.+[._-])?(train|validation|valid|val|test)\.({'|'.join(_SUFFIXES)})(\.gz)?", re.IGNORECASE
)
_ACTIVE = re.compile(r"[0-9]+:\S+")
_EVERY_ID = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """What was found in a folder."""

    files: dict[str, Path]
    """Split (train, validation, test) to its file."""
    format: Format
    """CSV or libsvm."""
    label: str
    """The label column."""
    fields: tuple[str, ...]
    """Names of the fields in order. libsvm and a CSV without a header have none: those of the benchmark, else f01, f02, ..."""
    delimiter: str | None
    """Between the columns of a CSV."""
    header: bool
    """Whether a CSV's first line names the columns."""
    dataset: Dataset | None
    """The benchmark it is laid out as; None for one nobody has published figures on."""

    @property
    def contract(self) -> FeatureContract:
        """Each field a vocabulary of the whole numbers or words that the train file has, each in a row of its own."""
        text = self.dataset is None and self.format is Format.CSV
        fields = {self.label: ContractField(role=Role.LABEL, dtype=Dtype.INT64, required=True)}
        for number, column in enumerate(self.fields, start=1):
            name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_") or f"f{number:02d}"
            name += "_" * (name in fields)
            if self.format is Format.LIBSVM:
                column = f"f{number:02d}"
            fields[name] = ContractField(
                role=Role.CONTEXT,
                dtype=Dtype.STRING if text else Dtype.INT64,
                required=not text,
                column=column if column != name else None,
                encoding=Vocabulary(min_count=1, max_size=_EVERY_ID),
            )
        if self.format is Format.LIBSVM:
            source = Source(format=Format.LIBSVM, slots=len(self.fields))
        else:
            source = Source(format=Format.CSV, delimiter=self.delimiter, header=self.header)
        name = self.dataset.name if self.dataset else "benchmark"
        return FeatureContract(
            name=name, description="Derived from the columns.", source=source, fields=fields
        )


def recognize(folder: Path, dataset: str | None = None) -> Layout:
    """Look at the names in `folder` and at the first line of each split.

    dataset: name of the benchmark, or `none`; default: by the names of the fields, without names by their number.
    Raises UsageError when files are missing or two would do, UnreadableData when a first line is not of the layout.
    """
    if dataset is not None and dataset != "none" and dataset not in DATASETS:
        raise UsageError(f"no benchmark is called {dataset!r}; there are {', '.join(DATASETS)}, and none")
    files = _find(folder)
    heads = {split: _first_line(file) for split, file in files.items()}
    format, delimiter, label, header = Format.LIBSVM, None, "label", False
    if _ACTIVE.search(heads["train"]):
        columns = _numbered({split: head.split() for split, head in heads.items()}, files)
    else:
        format, delimiter = Format.CSV, _delimiter(heads["train"])
        cells = {split: _cells(head, delimiter) for split, head in heads.items()}
        header = not _is_row(cells["train"])
        if header:
            names = _columns(heads["train"], delimiter, files["train"])
            label = _label(names, files["train"])
            columns = [column for column in names if column != label]
            for split, found in cells.items():
                if set(found) != set(names):
                    raise UnreadableData(
                        f"{files[split]}, line 1: the columns are {heads[split].strip()[:120]!r}, but those of {files['train'].name} "
                        f"are {heads['train'].strip()[:120]!r}; all splits must have the same"
                    )
        else:
            columns = _numbered(cells, files)
    benchmark = _dataset(columns, header, dataset, files["train"])
    if benchmark is not None and not header:
        columns = list(benchmark.fields)
    return Layout(files, format, label, tuple(columns), delimiter, header, benchmark)


def _is_row(cells: Sequence[str]) -> bool:
    """Whether a first line is a row already: numbers only, and the first of them a label."""
    numbers = [re.fullmatch(r"[-+0-9.]*", cell) is not None for cell in cells]
    return len(cells) > 1 and all(numbers) and re.fullmatch(r"[01](\.0*)?", cells[0]) is not None


def _numbered(rows: Mapping[str, Sequence[str]], files: Mapping[str, Path]) -> list[str]:
    """f01, f02, ... for what follows the label; raises UnreadableData when the splits do not agree in how many there are."""
    there = {split: len(cells) - 1 for split, cells in rows.items()}
    for split, ids in there.items():
        if ids != there["train"]:
            raise UnreadableData(
                f"{files[split]}, line 1: has {ids} ids after the label, {files['train'].name} has "
                f"{there['train']}; each line must have one id per field, such as `1 17:1 204:1 5046:1` or `1,17,204,5046`"
            )
    return [f"f{k:02d}" for k in range(1, there["train"] + 1)]


def _find(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; name the one that holds train, valid and test")
    below = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
    )
    candidates = [(place, _splits_in(place)) for place in [folder, *below]]
    complete = [(place, found) for place, found in candidates if found is not None]
    if not complete:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UsageError(
            f"{folder}: has no train, valid and test of one layout (.csv or .libsvm, also .gz), neither directly nor in one "
            f"folder below; it holds {names}"
        )
    if complete[0][0] != folder and len(complete) > 1:
        places = ", ".join(str(place) for place, _ in complete)
        raise UsageError(f"{folder}: holds several data sets; name one of {places}")
    return complete[0][1]


def _splits_in(folder: Path) -> dict[str, Path] | None:
    """The three files of the first layout that is complete; UsageError when two files would do for one split."""
    by_suffix: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match and path.is_file():
            splits = by_suffix.setdefault(match[2].lower(), {})
            splits.setdefault(SPLITS[match[1].lower()], []).append(path)
    for suffix in _SUFFIXES:
        splits = by_suffix.get(suffix, {})
        if set(splits) == set(SPLITS.values()):
            for split, paths in splits.items():
                if len(paths) > 1:
                    raise UsageError(
                        f"{paths[0]} and {paths[1].name}: both look like the {split} split; leave one of them"
                    )
            return {split: splits[split][0] for split in ("train", "validation", "test")}
    return None


def _first_line(file: Path) -> str:
    try:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
            for line in stream:
                if line.strip():
                    return line.lstrip("\ufeff")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableData(f"{file}: cannot be read as text ({error}); write it again") from error
    raise UnreadableData(f"{file}: has no lines; write it again")


def _delimiter(line: str) -> str:
    return max((",", "\t", ";"), key=line.count)


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _columns(line: str, delimiter: str, file: Path) -> list[str]:
    columns = _cells(line, delimiter)
    if len(columns) < 2 or any(re.fullmatch(r"[-+0-9.]*", name) for name in columns):
        raise UnreadableData(
            f"{file}, line 1: {line.strip()[:120]!r} is neither a header of column names nor a row that begins with "
            "its label, such as `1,17,204` or `1 17:1 204:1`; add the header, such as `label,user,item`"
        )
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise UnreadableData(f"{file}, line 1: column {repeated!r} occurs twice; name each once")
    return columns


def _label(columns: Sequence[str], file: Path) -> str:
    lower = {column.lower(): column for column in columns}
    for name in LABELS:
        if name in lower:
            return lower[name]
    raise UnreadableData(
        f"{file}, line 1: no column is called {', '.join(LABELS)}; there are {', '.join(columns)}. Rename the label's to `label`"
    )


def _dataset(columns: Sequence[str], named: bool, asked: str | None, file: Path) -> Dataset | None:
    if asked == "none":
        return None
    if asked is not None:
        wanted = DATASETS[asked]
        fits = len(columns) == len(wanted.fields) and (not named or set(columns) == set(wanted.fields))
        if not fits:
            raise UnreadableData(
                f"{file}, line 1: is not laid out as {wanted.name}, whose fields are {', '.join(wanted.fields)}; "
                f"it has {len(columns)}: {', '.join(columns)}"
            )
        return wanted
    for known in DATASETS.values():
        if set(columns) == set(known.fields):
            return known
        if not named and len(columns) == len(known.fields):
            return known
    return None
