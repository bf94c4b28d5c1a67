"""Where unfinished training lives: a folder named by what is trained, so that the same training finds its checkpoint again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clickmill.features import FeatureSpace
from clickmill.training import TrainingConfig


@contextmanager
def workplace(
    work: str,
    target: Path,
    space: FeatureSpace,
    data_digest: str,
    model: str,
    model_config: Mapping[str, Any],
    config: TrainingConfig,
    start: str,
) -> Iterator[Path]:
    """The folder to train in; moved to `target` when training ends well, left as it is when it does not.

    Without `work` that is `target` itself: kfp gives each attempt a new one, so an interrupted training is lost.
    """
    if not work:
        yield target
        return
    place = Path(work) / f"{model}-{key_of(space, data_digest, model, model_config, config, start)}"
    place.parent.mkdir(parents=True, exist_ok=True)
    yield place
    shutil.rmtree(target, ignore_errors=True)  # what an attempt left that died in the middle of the move
    shutil.move(place, target)


def key_of(
    space: FeatureSpace,
    data_digest: str,
    model: str,
    model_config: Mapping[str, Any],
    config: TrainingConfig,
    start: str,
) -> str:
    """16 hex digits over everything that decides the weights: the rows, what was learned from them, the model, its settings, and the
    identity of the training it starts from ("" for none)."""
    said = {
        "space": space.digest,
        "data": data_digest,
        "model": model,
        "model_config": dict(model_config),
        "training": config.model_dump(mode="json"),
        "start": start,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
