"""The environments of the bench's sides: Clickmill's own, and one per peer, made where it is missing, with the versions written here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "bench-train"


@dataclass(frozen=True)
class Environment:
    """A virtual environment by name; `packages` are pinned, and None is the environment that the bench itself runs in."""

    name: str
    packages: tuple[str, ...] | None
    variables: tuple[tuple[str, str], ...] = ()
    alone: tuple[str, ...] = ()
    """Packages that come without what they require; `packages` has what they need of it."""


CLICKMILL = Environment("clickmill", None)
DEEPCTR = Environment(
    "deepctr",
    ("deepctr==0.9.4", "tensorflow==2.21.0", "tf_keras==2.21.0", "numpy==2.4.6"),
    # DeepCTR is written for Keras 2.
    (("TF_USE_LEGACY_KERAS", "1"),),
)
FUXICTR = Environment("fuxictr", ("fuxictr==2.3.10", "torch==2.15.0", "numpy==2.4.6"))


def python(environment: Environment, uv: str | None = None) -> Path:
    """The interpreter of an environment; makes it when it is not there or has other versions than those above."""
    if environment.packages is None:
        return Path(sys.executable)
    folder = CACHE / "environments" / environment.name
    note, wanted = folder / "packages.txt", "\n".join(environment.packages + environment.alone)
    if not note.exists() or note.read_text() != wanted:
        tool = uv or shutil.which("uv") or str(HERE.parent.parent / ".cache" / "uv" / "bin" / "uv")
        print(f"making {folder} (a few minutes, a few GB)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([tool, "venv", "--quiet", "--python", "3.11", str(folder)], check=True)
        interpreter = str(folder / "bin" / "python")
        install = [tool, "pip", "install", "--quiet", "--python", interpreter]
        subprocess.run([*install, *environment.packages], check=True)
        if environment.alone:
            subprocess.run([*install, "--no-deps", *environment.alone], check=True)
        note.write_text(wanted)
    return folder / "bin" / "python"
