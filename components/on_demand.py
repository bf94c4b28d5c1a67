"""Load a component only when it is asked for: inside a running step kfp has no `dsl.component`, yet the step's other modules are needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def component_of(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a step's package: `components.train.train` comes from `components.train.component`."""
    name = package.rpartition(".")[2]

    def load(attribute: str) -> Any:
        if attribute != name:
            raise AttributeError(f"module {package!r} has no attribute {attribute!r}")
        return getattr(import_module(f"{package}.component"), name)

    return load
