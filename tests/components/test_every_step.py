"""Laws that every step keeps, found by its folder, so that a new one cannot escape them."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import docstring_parser
import pytest

import components
from components.image import IMAGE

ROOT = Path(components.__file__).parent
STEPS = sorted(path.parent.name for path in ROOT.glob("*/component.py"))


def component(step: str) -> Any:
    return getattr(importlib.import_module(f"components.{step}"), step)


def test_the_list_of_steps_is_the_list_of_folders() -> None:
    assert sorted(components.__all__) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_the_docstring_explains_every_input_and_output(step: str) -> None:
    function = component(step).python_func
    said = [p.arg_name for p in docstring_parser.parse(function.__doc__).params]
    assert said == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("step", STEPS)
def test_the_readme_names_every_input_and_output(step: str) -> None:
    readme = (ROOT / step / "README.md").read_text()
    assert readme.startswith(f"# {step}\n")
    for name in inspect.signature(component(step).python_func).parameters:
        assert f"`{name}`" in readme, name


@pytest.mark.parametrize("step", STEPS)
def test_the_step_runs_in_our_image_and_installs_nothing(step: str) -> None:
    container = component(step).component_spec.implementation.container
    assert container.image == IMAGE
    assert "python" in IMAGE
    assert not any("pip install" in part for part in container.command)


@pytest.mark.parametrize("step", STEPS)
def test_the_step_tells_how_it_ended(step: str) -> None:
    source = inspect.getsource(component(step).python_func)
    # the report is about the others; it would only bury their failure under its own
    assert ("with step(" in source) is (step != "report")


def test_the_parts_of_a_step_load_inside_a_running_step_where_kfp_has_no_components() -> None:
    parts = sorted(
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        for path in ROOT.rglob("*.py")
        if path.name not in ("__init__.py", "component.py")
    )
    code = f"import importlib, sys; [importlib.import_module(m) for m in {parts!r}]; assert 'kfp' not in sys.modules"
    environment = {**os.environ, "_KFP_RUNTIME": "true", "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
