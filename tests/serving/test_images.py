"""What the images are made of, read from the recipe and its locks. `tests/integration/test_images.py` runs a built one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from components.image import DEFAULT_IMAGE

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "serving" / "images"
RECIPE = (IMAGES / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(path: Path) -> set[str]:
    """name==version ; marker of each package of a lock."""
    return {
        line.removesuffix("\\").strip() for line in path.read_text().splitlines() if re.match(r"\w", line)
    }


def names(path: Path) -> set[str]:
    return {pin.split("==")[0] for pin in pins(path)}


def wanted(*requirements: str) -> set[str]:
    return {re.split(r"[\[<>=~!]", requirement)[0].strip() for requirement in requirements}


def stage(name: str) -> list[str]:
    """The instructions of a stage and of those it starts from."""
    parts = re.split(r"^FROM ", RECIPE, flags=re.MULTILINE)[1:]
    stages = {
        head.split(" AS ")[1]: (head.split(" AS ")[0], body)
        for head, _, body in (p.partition("\n") for p in parts)
    }
    base, body = stages[name]
    own = [line for line in body.splitlines() if line and not line.startswith("#")]
    return [*(stage(base) if base in stages else []), *own]


@pytest.mark.parametrize(
    ("lock", "extras", "absent"),
    [
        ("serving", ("serving",), ("kfp", "evidently", "optuna", "pytest", "jupyter", "plotly", "hatchling")),
        ("steps", ("pipelines", "sweep", "monitoring"), ("kserve", "redis", "pytest", "hatchling")),
        ("monitoring", ("monitoring",), ("kfp", "kserve", "redis", "optuna", "pytest", "hatchling")),
    ],
)
def test_an_image_installs_what_its_room_needs_and_no_more(lock, extras, absent):
    found = names(IMAGES / f"{lock}.lock")
    optional = PROJECT["project"]["optional-dependencies"]
    needed = wanted(
        *PROJECT["project"]["dependencies"], *(one for extra in extras for one in optional[extra])
    )
    assert needed <= found, "run `make lock`"
    assert not found & set(absent)
    # The lock into a layer of its own, by hash; then the project's wheel and nothing that it would name.
    (locked,) = [line for line in stage(f"{lock}-venv") if "-r /build/" in line and "/opt/clickmill" in line]
    assert f"--no-cache-dir --require-hashes -r /build/{lock}.lock" in locked
    (project,) = [line for line in stage(lock) if "pip" in line and "install" in line]
    assert "--no-deps --no-index /opt/wheels/*.whl" in project


def test_the_versions_in_the_images_are_those_the_tests_ran_with():
    tested = pins(ROOT / "requirements.lock")
    for lock in IMAGES.glob("*.lock"):
        assert pins(lock) <= tested, f"{lock.name} is stale; run `make lock`"


@pytest.mark.parametrize("image", ["serving", "steps", "monitoring"])
def test_an_image_runs_as_a_numeric_user_that_owns_nothing(image):
    instructions = stage(image)
    users = [line.split()[1] for line in instructions if line.startswith("USER ")]
    assert [re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) is not None for user in users] == [True]
    copies = [line for line in instructions if line.startswith(("COPY ", "ADD "))]
    assert copies == [
        f"COPY --from={image}-venv /opt/clickmill /opt/clickmill",
        "COPY --from=wheel /build/wheels /opt/wheels",
    ], "and no --chown"


def test_the_base_is_an_argument_and_no_host_is_written_down():
    assert re.findall(r"^ARG (.*)$", RECIPE, re.MULTILINE) == [
        "BASE=python:3.11-slim-bookworm",
        "TENSORFLOW=messages",
    ]
    bases = re.findall(r"^FROM (\S+) AS (\S+)", RECIPE, re.MULTILINE)
    known = {name for _, name in bases} | {"${BASE}"}
    assert {base for base, _ in bases} <= known


def test_the_steps_image_bears_the_name_that_the_components_ask_for():
    script = (IMAGES / "build.sh").read_text()
    name, version = DEFAULT_IMAGE.split(":")
    assert f"[steps]={name})" in script
    assert version == PROJECT["project"]["version"]


def test_the_context_holds_all_that_is_copied_and_no_more():
    ignore = (ROOT / ".dockerignore").read_text().split()
    allowed = {entry[1:] for entry in ignore if entry.startswith("!")}
    assert "*" in ignore
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", RECIPE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert {word.split("/")[0] for word in copied} == allowed
    assert all((ROOT / word).exists() for word in copied)
