"""Where in a request a problem lies, as a path that programs can follow: `instances[3].user_id`, `candidates[2].bid`, `inputs[1].data[3]`.

The rules of the contract speak of rows and fields; which key of the body holds them is known to the protocol alone. Steps are JSONPath's:
`.name`, `["odd name"]` for a name that is no identifier, `[3]`.
"""

from __future__ import annotations

import json

from clickmill.errors import RequestError

_LONGEST_STEP = 100


def step(name: str) -> str:
    """One member of an object, to be put after the path of the object. Long names are cut."""
    if len(name) > _LONGEST_STEP:
        name = f"{name[: _LONGEST_STEP - 3]}..."
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name)}]"


def of_row(rows: str, error: RequestError) -> str:
    """Path of a problem with one of the rows under the key `rows`: `instances[3].history[2]`."""
    path = rows if error.row is None else f"{rows}[{error.row}]"
    if error.field is not None and error.row is not None:
        path += step(error.field)
    return path if error.item is None else f"{path}[{error.item}]"


def of_member(part: str, error: RequestError) -> str:
    """Path of a problem with a field of the one object under the key `part`: `user.history[2]`."""
    path = part if error.field is None else part + step(error.field)
    return path if error.item is None else f"{path}[{error.item}]"


def of_tensor(names: list[str], error: RequestError, data: str) -> str:
    """Path of a problem with one of the inputs of these names, in their order: `inputs[1].data[3]`, `inputs` for one that is missing.

    `data` is the key of the values: `.data` in JSON, empty where they are bytes.
    """
    if error.field not in names:
        return "inputs"
    # a name that stands twice is the later one's fault
    path = f"inputs[{len(names) - 1 - names[::-1].index(error.field)}]"
    return path if error.row is None else f"{path}{data}[{error.row}]"


def of_map(error: RequestError) -> str:
    """Path of a problem with one of the inputs of TF Serving's Predict, which are a map: `inputs["price"][3]`."""
    path = "inputs" if error.field is None else f"inputs[{json.dumps(error.field[:_LONGEST_STEP])}]"
    return path if error.row is None else f"{path}[{error.row}]"


def of_example(kind: str, error: RequestError) -> str:
    """Path of a problem with one of the examples of Classify and Regress."""
    path = f"input.{kind}.examples"
    if error.row is None:
        return path
    path += f"[{error.row}]"
    return (
        path if error.field is None else f"{path}.features.feature[{json.dumps(error.field[:_LONGEST_STEP])}]"
    )
