"""A folder is there whole or not at all, however the writing ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clickmill.bundle.durable import disk_full, is_vacant, whole_folder
from clickmill.errors import BundleError


def test_the_folder_appears_only_when_the_block_has_ended(tmp_path: Path):
    out = tmp_path / "deep" / "bundle"
    with whole_folder(out) as temp:
        (temp / "a").mkdir()
        (temp / "a" / "b.txt").write_text("b")
        assert not out.exists()
        assert temp.parent == out.parent
    assert (out / "a" / "b.txt").read_text() == "b"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_error_and_a_ctrl_c_leave_nothing_and_pass_through(tmp_path: Path, error):
    def write_half() -> None:
        with whole_folder(tmp_path / "bundle") as temp:
            (temp / "half.txt").write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_a_full_one_is_never_overwritten(tmp_path: Path):
    out = tmp_path / "bundle"
    out.mkdir()
    assert is_vacant(out)
    with whole_folder(out) as temp:
        (temp / "first.txt").write_text("1")
    assert not is_vacant(out)
    with pytest.raises(BundleError, match="exists already and is not empty"), whole_folder(out) as temp:
        (temp / "second.txt").write_text("2")
    assert [p.name for p in out.iterdir()] == ["first.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BundleError, match="cannot be written there: Not a directory"),
        whole_folder(tmp_path / "file/b"),
    ):
        pass


CHILD = """
import sys, resource
from pathlib import Path
from clickmill.bundle.durable import whole_folder
from clickmill.errors import BundleError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    with whole_folder(Path(sys.argv[1])) as temp:
        (temp / "small").write_bytes(b"x" * 1000)
        (temp / "large").write_bytes(b"x" * (1 << 20))
except BundleError as error:
    sys.exit(str(error))
"""


def test_a_file_the_system_refuses_to_grow_leaves_nothing_and_says_so(tmp_path: Path):
    out = tmp_path / "bundle"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "larger than the system allows" in done.stderr
    assert "Nothing half was left behind" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_and_says_so():
    # /dev/full answers every write with the kernel's own ENOSPC
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert disk_full(caught.value) == "no space left on the device"


def test_only_a_full_disk_is_called_a_full_disk():
    assert disk_full(OSError(errno.EACCES, os.strerror(errno.EACCES))) is None
    assert disk_full(ValueError("too large")) is None
    wrapped = RuntimeError("arrow")
    wrapped.__cause__ = OSError(errno.EDQUOT, "quota")
    assert disk_full(wrapped) == "the disk quota is used up"
