"""Which code wrote a bundle: the package's version and, in a checkout, the commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from clickmill import __version__

COMMIT = "CLICKMILL_COMMIT"
"""Environment variable an image build sets, because an image holds no .git."""


def code_version() -> str:
    """`0.1.0+g7839a89`, with `.dirty` behind it when tracked files differ from the commit; `0.1.0` where no commit is known."""
    given = os.environ.get(COMMIT)
    if given:
        return f"{__version__}+g{given[:12]}"
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return __version__
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return __version__
    dirty = ".dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{__version__}+g{commit}{dirty}"


def _git(root: Path, *args: str) -> str | None:
    """Its output, or None where git is missing or refuses (a checkout owned by someone else)."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
