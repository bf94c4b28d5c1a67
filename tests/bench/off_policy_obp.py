"""The side of obp in `off_policy.py`, run in its own environment: reads problem_*.npz, prints its estimates as JSON.

torch, which only obp's tensor versions and learners use, is an empty stand-in here.
"""

import importlib.abc
import importlib.machinery
import json
import sys
from pathlib import Path

import numpy as np


class _Empty(type):
    """A class that has every attribute, each again such a class: enough for annotations and base classes."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _Torch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torch":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def exec_module(self, module):
        module.__getattr__ = lambda name: getattr(_Empty("torch", (), {}), name)


def main(folder: Path) -> None:
    sys.meta_path.insert(0, _Torch())
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
    )

    estimators = {
        "ips": InverseProbabilityWeighting(),
        "snips": SelfNormalizedInverseProbabilityWeighting(),
        "dm": DirectMethod(),
        "dr": DoublyRobust(),
    }
    found = {}
    for path in sorted(folder.glob("problem_*.npz")):
        with np.load(path) as problem:
            given = {name: problem[name] for name in problem.files}
        found[path.stem] = {
            name: float(one.estimate_policy_value(**given)) for name, one in estimators.items()
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
