"""`python -m pipelines.compile`: write the compiled pipelines again. `make gen` calls it; a test holds the files equal to the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import drift
from pipelines.ctr import compile_pipeline

COMPILED = Path(__file__).parent / "compiled"
VARIANTS: dict[str, dict[str, Any]] = {
    "ctr.yaml": {},
    "ctr-gpu.yaml": {"gpus": 1, "node_selector": {"nvidia.com/gpu.present": "true"}, "models_at_once": 1},
}
"""File name to the knobs it is compiled with (`pipelines.build.Build`)."""

DRIFT = "drift.yaml"
"""The scheduled look at drift, with the default knobs."""


def main() -> None:
    """Write all variants."""
    for name, knobs in VARIANTS.items():
        print(compile_pipeline(COMPILED / name, **knobs))
    print(drift.compile_pipeline(COMPILED / DRIFT))


if __name__ == "__main__":
    main()
