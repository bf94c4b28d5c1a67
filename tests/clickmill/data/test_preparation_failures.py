"""Every way in which `prepare` can fail, what it says then, and that nothing is left behind; and how much memory it takes."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clickmill.contract import loads
from clickmill.data import PreparedDataset, PrepareOptions, prepare
from clickmill.errors import DegenerateLabels, QuarantineOverflow, UnreadableData, UsageError
from tests.clickmill.data.labelled_log import CONTRACT, LABELLED, log, save


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": 0}, r"split train: no click in 600 rows with 0 clicks \(2026-01-05 00:00 to .* UTC\)"),
        ({"label": 1}, "split train: nothing but clicks in 600 rows with 600 clicks"),
    ],
)
def test_labels_of_one_class_are_refused_by_the_name_of_the_split(tmp_path, change, words):
    path = save(log().assign(**change), tmp_path / "log.parquet")
    with pytest.raises(DegenerateLabels, match=words):
        prepare(path, CONTRACT, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["log.parquet"]


def test_a_late_split_without_clicks_is_refused_too(tmp_path):
    frame = log()
    frame.loc[800:, "label"] = 0
    with pytest.raises(DegenerateLabels, match="split test: no click in 200 rows"):
        prepare(save(frame, tmp_path / "log.parquet"), CONTRACT, tmp_path / "out")


def test_bad_rows_rest_beside_the_dataset_and_too_many_stop_it(tmp_path):
    frame = log()
    frame.loc[[3, 7], "position"] = 0
    path = save(frame, tmp_path / "log.parquet")
    dataset = prepare(path, CONTRACT, tmp_path / "out")
    assert dataset.meta.quality.quarantined == 2
    assert sum(split.rows for split in dataset.meta.splits.values()) == 998
    bad = pq.read_table(tmp_path / "out.quarantine.parquet").to_pylist()
    assert [row["__row__"] for row in bad] == [3, 7]
    with pytest.raises(QuarantineOverflow, match=r"2 of 1,000 rows break the contract"):
        prepare(path, CONTRACT, tmp_path / "other", options=PrepareOptions(max_quarantine_share=0.001))
    assert not (tmp_path / "other").exists()


def test_a_dataset_is_replaced_whole_and_a_foreign_folder_is_left_alone(tmp_path):
    prepare(save(log(), tmp_path / "a.parquet"), CONTRACT, tmp_path / "out")
    again = prepare(save(log(500), tmp_path / "b.parquet"), CONTRACT, tmp_path / "out")
    assert again.meta.quality.rows == 500
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"foreign: exists and was not made by this step"):
        prepare(tmp_path / "a.parquet", CONTRACT, foreign)
    assert (foreign / "thesis.tex").read_text() == "years of work"


class Interrupted:
    """Presses Ctrl-C when the first split is written."""

    def start(self, task, total, unit):
        self.task = task

    def advance(self, n=1, **figures):
        if self.task == "writing":
            raise KeyboardInterrupt

    def finish(self):
        pass


def test_ctrl_c_leaves_what_was_there_and_nothing_else(tmp_path):
    path = save(log(), tmp_path / "log.parquet")
    before = prepare(path, CONTRACT, tmp_path / "out").meta
    other = save(log(500), tmp_path / "other.parquet")
    with pytest.raises(KeyboardInterrupt):
        prepare(other, CONTRACT, tmp_path / "out", progress=Interrupted())
    assert PreparedDataset.open(tmp_path / "out").meta == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.parquet", "other.parquet", "out"]


INTERRUPTED_QUERY = """
import signal, sys, threading, time
from pathlib import Path
from clickmill.contract import loads
from clickmill.data import prepare
folder, contract = Path(sys.argv[1]), loads(sys.argv[2])

class Presses:
    def start(self, task, total, unit):
        if task == "writing":
            threading.Timer(0.02, lambda: signal.raise_signal(signal.SIGINT)).start()
    def advance(self, n=1, **figures): pass
    def finish(self): pass

try:
    prepare(folder / "log.parquet", contract, folder / "out", progress=Presses())
    print("too quick")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_inside_a_query_is_a_keyboard_interrupt_and_leaves_nothing(tmp_path):
    frame = log(100_000).sample(frac=1, random_state=0)
    frame["site"] = [f"{k:0300d}" for k in range(len(frame))]
    save(frame, tmp_path / "log.parquet")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_QUERY, str(tmp_path), LABELLED],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "interrupted\n", done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["log.parquet"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from clickmill.contract import loads
from clickmill.data import prepare
from clickmill.errors import DataError
folder, contract = Path(sys.argv[1]), loads(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    prepare(folder / "log.parquet", contract, folder / "out")
except DataError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_bytes_leaves_no_half_dataset(tmp_path):
    save(log(5000), tmp_path / "log.parquet")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), LABELLED],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("DataError "), done.stderr
    assert "could not be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["log.parquet"]


@pytest.mark.parametrize("damage", ["truncated gzip", "flipped page"])
def test_damage_in_the_middle_of_a_file_is_told_by_its_name(tmp_path, damage):
    if damage == "truncated gzip":
        text = log(5000).to_csv(index=False).encode()
        path = tmp_path / "log.csv.gz"
        path.write_bytes(gzip.compress(text)[:-2000])
        contract = loads(LABELLED.replace("fields:", "source: {format: csv}\nfields:"))
    else:
        path = save(log(5000), tmp_path / "log.parquet")
        whole = bytearray(path.read_bytes())
        whole[200:1200] = bytes(1000)
        path.write_bytes(whole)
        contract = CONTRACT
    with pytest.raises(UnreadableData, match=rf"{path.name}: cannot be read: .* again"):
        prepare(path, contract, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_lines_in_another_encoding_go_to_quarantine(tmp_path):
    contract = loads(LABELLED.replace("fields:", "source: {format: csv}\nfields:"))
    text = log().to_csv(index=False).encode() + "2026-01-05,1,1,caf\u00e9\n".encode("latin-1")
    (tmp_path / "log.csv").write_bytes(text)
    quality = prepare(tmp_path / "log.csv", contract, tmp_path / "out").meta.quality
    assert (quality.rows, quality.quarantined) == (1001, 1)
    assert quality.breaches[0].rule == "no line has invalid encoding"


def test_a_folder_that_is_no_dataset_or_was_altered_is_unreadable(tmp_path):
    with pytest.raises(UnreadableData, match=r"is not a prepared dataset \(no dataset\.json\)"):
        PreparedDataset.open(tmp_path)
    prepare(save(log(), tmp_path / "log.parquet"), CONTRACT, tmp_path / "out")
    contract = tmp_path / "out" / "contract.yaml"
    contract.write_text(contract.read_text().replace("site:", "sight:"))
    with pytest.raises(UnreadableData, match="was altered after the data were prepared"):
        PreparedDataset.open(tmp_path / "out")
    (tmp_path / "out" / "dataset.json").write_text(json.dumps({"splits": 1}))
    with pytest.raises(UnreadableData, match=r"dataset\.json: cannot be read"):
        PreparedDataset.open(tmp_path / "out")


WITHIN_MEMORY = """
import importlib.util, resource, sys
from pathlib import Path
from clickmill.data import prepare
spec = importlib.util.spec_from_file_location("bench", sys.argv[1])
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
folder = Path(sys.argv[2])
dataset = prepare(folder / "log.parquet", bench.loads(bench.CONTRACT), folder / "out")
print(sum(s.rows for s in dataset.meta.splits.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.large
def test_five_million_rows_in_no_order_take_less_than_three_gibibytes(tmp_path):
    script = Path(__file__).parents[2] / "bench" / "preprocess.py"
    spec = importlib.util.spec_from_file_location("bench_preprocess", script)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    bench.write_impressions(tmp_path / "log.parquet", 5_000_000, shuffled=True)
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_MEMORY, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )
    rows, peak_kib = map(int, done.stdout.split())
    assert rows == 5_000_000
    assert peak_kib < 3 * 1024**2
