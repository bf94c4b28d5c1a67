"""What the docs show is true: contracts load, tables are complete, commands exist, links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from clickmill import contract as contracts
from clickmill.contract import Role
from clickmill.contract.encoding import NUMERIC_KINDS, SLOT_KINDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    p
    for p in ROOT.rglob("*.md")
    if not {".venv", ".cache", "out", ".pytest_cache"} & set(p.relative_to(ROOT).parts)
)
CONTRACT_PAGE = (ROOT / "docs" / "contract.md").read_text()


def test_the_contract_of_the_page_loads() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", CONTRACT_PAGE, flags=re.S)
    loaded = contracts.loads(example)
    assert loaded.name == "shop_ads"
    assert "last_clicked_ads" in loaded.inputs


def test_the_page_names_every_role_and_every_encoding() -> None:
    for word in [*Role, *SLOT_KINDS, *NUMERIC_KINDS, "list"]:
        assert f"`{word}`" in CONTRACT_PAGE, f"docs/contract.md does not explain `{word}`"


@pytest.mark.parametrize("path", sorted((ROOT / "contracts").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_contracts_load_and_survive_a_round_trip(path: Path) -> None:
    loaded = contracts.load(path)
    assert contracts.loads(contracts.dumps(loaded)) == loaded


def test_the_committed_schema_is_the_one_the_command_prints() -> None:
    assert json.loads((ROOT / "contracts" / "contract.schema.json").read_text()) == contracts.json_schema()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_options_in_the_docs_exist(page: Path) -> None:
    from typer.main import get_command

    from clickmill.command import app

    root = get_command(app)
    for line in re.findall(r"^\s*\$?\s*clickmill ([^#\n]*)", page.read_text(), flags=re.M):
        words, node = line.split(), root
        while words and hasattr(node, "commands") and words[0] in node.commands:
            node = node.commands[words.pop(0)]
        assert node is not root, f"{page.name}: `clickmill {line}`: no such command"
        known = {name for parameter in node.params for name in [*parameter.opts, *parameter.secondary_opts]}
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert option in known | {"--help"}, f"{page.name}: `clickmill {line}`: no option {option}"
