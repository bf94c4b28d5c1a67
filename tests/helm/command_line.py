"""What containers run, read as `clickmill` itself would read it."""

from collections.abc import Iterator
from typing import Any

import typer

from clickmill.command.app import app
from helm import generate
from tests.helm import rendering

IN_THE_IMAGE = "/opt/clickmill/lib/python3.11/site-packages"
"""Where the images have what is the root of the repository here."""


def clickmill_commands(rendered: list[rendering.Object]) -> Iterator[tuple[str, list[str], list[Any]]]:
    """(pod, words after `clickmill`, environment) of every container that runs it."""
    for name, pod in rendering.pods(rendered).items():
        for container in pod["containers"]:
            if container.get("command", [""])[0] == "clickmill":
                yield name, [*container["command"][1:], *container["args"]], container.get("env", [])


def expanded(words: list[str], env: list[Any]) -> list[str]:
    """`$(NAME)` as the kubelet replaces it; KServe adds INFERENCE_SERVICE_NAME. A reference to a secret stands for some value."""
    known = {"INFERENCE_SERVICE_NAME": "ctr"} | {
        each["name"]: each.get("value", "redis://store:6379/0") for each in env
    }
    for name, value in known.items():
        words = [word.replace(f"$({name})", value) for word in words]
    return [word.replace(IN_THE_IMAGE, str(generate.ROOT)) for word in words]


def parse(words: list[str]) -> Any:
    """As the pod's process would: an unknown command or option, a wrong value and a missing argument are errors."""
    command, name = typer.main.get_command(app), "clickmill"
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"clickmill has no command {name}"
        command = command.commands[name]
    return command.make_context(name, words)
