"""The program as a shell sees it: exit codes, what goes to stdout and what to stderr."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clickmill.errors as errors

PROGRAM = str(Path(sys.executable).with_name("clickmill"))

CONTRACT = """\
name: shop
fields:
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, range: {min: 0}}
  clicked: {role: label, dtype: int64}
"""


def clickmill(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(CONTRACT)
    return path


def test_help_names_every_subcommand_and_the_exit_codes() -> None:
    result = clickmill("--help")
    assert result.returncode == 0
    for word in (
        "demo",
        "run",
        "serve",
        "predict",
        "contract",
        "data",
        "features",
        "model",
        "bundle",
        "Exit status",
    ):
        assert word in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "serve",
        "predict",
        "contract check",
        "contract schema",
        "contract init",
        "data world",
        "data check",
        "data prepare",
        "model size",
        "features publish",
        "features show",
        "bundle show",
        "bundle verify",
    ],
)
def test_help_of_each_subcommand_explains_every_option(command: str) -> None:
    from typer.main import get_command

    from clickmill.command import app

    node = get_command(app)
    for word in command.split():
        node = node.commands[word]
    assert node.help, f"{command} says nothing about itself"
    silent = [p.name for p in node.params if p.name != "help" and not getattr(p, "help", None)]
    assert not silent, f"{command}: parameters without a sentence: {silent}"


def test_the_help_of_run_and_size_names_every_model_of_the_registry() -> None:
    from typer.main import get_command

    from clickmill.command import app
    from clickmill.models import MODELS

    root = get_command(app)
    for command, parameter in (
        (root.commands["run"], "models"),
        (root.commands["model"].commands["size"], "model"),
    ):
        (option,) = [p for p in command.params if p.name == parameter]
        named = re.split(r"[;.]|,? or ", option.help.split(":")[1])[0].strip().split(", ")
        assert sorted(named) == sorted(MODELS)


def test_help_does_not_load_tensorflow() -> None:
    probe = "import sys, clickmill.command; print([m for m in ('tensorflow', 'kfp', 'kserve', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_version_is_the_package_s() -> None:
    import clickmill

    result = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"clickmill {clickmill.__version__}\n"


def test_a_sound_contract_exits_with_0_and_json_stands_alone_on_stdout(contract: Path) -> None:
    result = clickmill("contract", "check", contract, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["name"] == "shop"


def test_a_broken_contract_exits_with_2_and_says_where_on_stderr(contract: Path) -> None:
    contract.write_text(CONTRACT.replace("log1p", "log2p"))
    result = clickmill("contract", "check", contract)
    assert (result.returncode, result.stdout) == (2, "")
    assert "fields.price.encoding (line 4): unknown kind 'log2p'" in result.stderr


def test_an_unknown_option_exits_with_2() -> None:
    assert clickmill("contract", "check", "--nonsense").returncode == 2


def test_a_missing_bundle_exits_with_1(tmp_path: Path) -> None:
    result = clickmill("bundle", "verify", tmp_path / "nothing")
    assert result.returncode == 1
    assert "nothing" in result.stderr
    assert "Traceback" not in result.stderr


def test_contract_init_drafts_a_contract_that_check_accepts(tmp_path: Path) -> None:
    rows = "\n".join(f"u{i % 7},{i % 3},{i * 0.5},{int(i % 10 == 0)}" for i in range(200))
    data = tmp_path / "log.csv"
    data.write_text(f"user_id,position,price,click\n{rows}\n")
    out = tmp_path / "drafted.yaml"
    assert clickmill("contract", "init", data, "--out", out).returncode == 0
    assert "role: label" in out.read_text()
    checked = clickmill("contract", "check", out, "--data", data, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["quality"]["quarantined"] == 0


def test_contract_init_does_not_overwrite_without_being_told(tmp_path: Path, contract: Path) -> None:
    data = tmp_path / "log.csv"
    data.write_text("user_id,click\nu1,0\nu2,1\n")
    result = clickmill("contract", "init", data, "--out", contract)
    assert result.returncode == 2
    assert "--force" in result.stderr
    assert contract.read_text() == CONTRACT


def test_the_table_of_exit_codes_in_the_error_tree_is_the_one_the_classes_carry() -> None:
    assert errors.__doc__ is not None
    documented = {}
    for line in errors.__doc__.splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if words and isinstance(getattr(errors, words[0], None), type):
            documented[words[0]] = int(words[words.index("exit") + 1]) if "exit" in words else None
    classes = {
        n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.ClickmillError)
    }
    assert set(documented) == set(classes)
    for name, code in documented.items():
        if code is not None:
            assert classes[name].exit_code == code
