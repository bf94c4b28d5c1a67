"""The bundle of the endpoint's benches: DCN-v2 over 26 hashed strings and 13 floats, half of them the user's; trained for one pass.

Written by the library as any other, so it carries whatever a bundle carries: golden predictions, warm-up requests, every engine's graph.
Its arithmetic is that of the training bench: width 16, three full cross layers, a tower of 256 and 128.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import ContractField, FeatureContract, Hash, Role, Standardize

FIELDS, NUMERICS, DIM, CROSSES, UNITS = 26, 13, 16, 3, (256, 128)
NAME = "bench"
_ROWS = 12_000


def contract(ids: int) -> FeatureContract:
    """The first half of the strings and of the numbers belong to the user, the others to the ad."""

    def role(i: int, count: int) -> Role:
        return Role.USER if i < count // 2 else Role.AD

    fields = {
        f"c{i:02d}": ContractField(role=role(i, FIELDS), dtype="string", encoding=Hash(buckets=ids))
        for i in range(FIELDS)
    }
    fields |= {
        f"n{i:02d}": ContractField(role=role(i, NUMERICS), dtype="float32", encoding=Standardize())
        for i in range(NUMERICS)
    }
    fields["shown_at"] = ContractField(role=Role.EVENT_TIME, dtype="timestamp")
    fields["clicked"] = ContractField(role=Role.LABEL, dtype="int64")
    return FeatureContract(name=NAME, fields=fields)


def raw_rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """n rows of the contract's inputs as the graph takes them."""
    rng = np.random.default_rng([n, seed])
    raw: dict[str, np.ndarray] = {}
    for i in range(FIELDS):
        raw[f"c{i:02d}"] = np.array([b"%08x" % v for v in rng.integers(0, 2**32, n)], object)
    for i in range(NUMERICS):
        raw[f"n{i:02d}"] = rng.standard_normal(n, dtype=np.float32)
    return raw


def of_one_request(raw: dict[str, np.ndarray], shared: frozenset[str]) -> dict[str, np.ndarray]:
    """The rows as the candidates of one user: shared fields keep their first row."""
    return {name: values[:1] if name in shared else values for name, values in raw.items()}


def write_bundle(folder: Path, ids: int) -> Path:
    """Train for one pass and write; `folder` also gets what that takes. Returns the bundle's folder; reuses one that is there."""
    from clickmill import bundle as bundles
    from clickmill import data, features
    from clickmill.training import TrainingConfig, train

    out = folder / f"{NAME}-{ids}"
    if (out / "manifest.json").exists():
        return out
    folder.mkdir(parents=True, exist_ok=True)
    asked = contract(ids)
    log = folder / "log.parquet"
    _write_log(log, asked)
    prepared = folder / "prepared"
    shutil.rmtree(prepared, ignore_errors=True)
    shutil.rmtree(folder / "trained", ignore_errors=True)
    dataset = data.prepare([log], asked, prepared)
    trained = train(
        dataset,
        features.fit(dataset),
        "dcn_v2",
        model_config={"dim": DIM, "cross_layers": CROSSES, "units": list(UNITS)},
        config=TrainingConfig(epochs=1),
        out=folder / "trained",
    )
    bundles.build_bundle(trained, dataset, out, method="none", resamples=20)
    return out


def _write_log(path: Path, asked: FeatureContract) -> None:
    raw = raw_rows(_ROWS, seed=1)
    logit = -1.5 + raw["n00"] + raw["n12"]
    label = np.random.default_rng(0).random(_ROWS) < 1 / (1 + np.exp(-logit))
    start = datetime(2026, 11, 1, tzinfo=UTC)
    columns = {
        name: pa.array([text.decode() for text in values]) if values.dtype == object else pa.array(values)
        for name, values in raw.items()
    }
    columns["shown_at"] = pa.array(
        [start + timedelta(seconds=60 * i) for i in range(_ROWS)], pa.timestamp("us", tz="UTC")
    )
    columns["clicked"] = pa.array(label.astype(np.int64))
    pq.write_table(pa.table(columns), path)


def copy_as(bundle: Path, out: Path, words: str) -> Path:
    """The same bundle under another digest: `words` go into its card."""
    from clickmill.bundle import manifest as manifests

    shutil.copytree(bundle, out)
    (out / "card.md").write_text((out / "card.md").read_text() + f"\n{words}\n")
    manifest = manifests.read(bundle)
    (out / manifests.MANIFEST).unlink()
    files = manifests.take_stock(out)
    renewed = manifest.model_copy(update={"files": files, "digest": manifests.digest_of(files)})
    (out / manifests.MANIFEST).write_bytes(renewed.to_bytes())
    return out
