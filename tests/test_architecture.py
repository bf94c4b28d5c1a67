"""The tree is the architecture: a linter reads the imports, and its contracts hold."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 400
PYTHON = sorted(
    p
    for room in ("clickmill", "components", "pipelines", "serving", "monitoring")
    for p in (ROOT / room).rglob("*.py")
)


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_arrows_between_rooms_and_inside_the_library_run_down_only() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_an_arrow_that_runs_up_breaks_the_build(tmp_path: Path) -> None:
    for room in ("clickmill", "components", "pipelines", "serving", "monitoring"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    for package in (
        "benchmark",
        "command",
        "experiment",
        "bundle",
        "release",
        "sweep",
        "training",
        "models",
        "auction",
        "capacity",
        "prediction_log",
        "calibration",
        "features",
        "evaluation",
    ):
        (tmp_path / "clickmill" / f"{package}.py").touch()
    for package in ("data", "contract", "disk", "errors", "metric_names", "progress"):
        (tmp_path / "clickmill" / f"{package}.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / "clickmill" / "data.py").write_text("import clickmill.models\nimport serving\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert "clickmill.data -> clickmill.models" in result.stdout
    assert "clickmill.data -> serving" in result.stdout


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_holds_one_subject(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LIMIT, f"{path} has {lines} lines; split it by subject"


@pytest.mark.parametrize(
    "package", [p for p in PYTHON if p.name == "__init__.py"], ids=lambda p: str(p.parent.relative_to(ROOT))
)
def test_every_package_opens_with_what_it_is(package: Path) -> None:
    assert package.read_text().lstrip().startswith('"""'), f"{package} has no opening sentence"
