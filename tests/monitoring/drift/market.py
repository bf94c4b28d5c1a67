"""A small market: a bundle that has a contract and a drift reference and nothing that serves, and logs of its rows."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill import contract as contracts
from clickmill.bundle import Lineage, Manifest, ModelFacts
from clickmill.bundle import manifest as manifests
from clickmill.features import tensors
from clickmill.prediction_log import Answered, Kept, LogFolder, Salt, to_table

CONTRACT = contracts.loads(
    """
name: shop
fields:
  impression_id: {role: impression_id, dtype: string}
  request_id: {role: request_id, dtype: string}
  shown_at: {role: event_time, dtype: timestamp}
  user_id: {role: user, dtype: string, personal: true, encoding: {kind: hash, buckets: 100}}
  device: {role: context, dtype: string, allowed: [phone, desk, tv], encoding: {kind: vocabulary}}
  ad_id: {role: ad, dtype: string, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, range: {min: 0, max: 100000}, default: 1.0, encoding: {kind: log1p}}
  stock: {role: ad, dtype: int64, encoding: {kind: standardize}}
  new_user: {role: user, dtype: bool, encoding: {kind: vocabulary}}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, max_length: 5, items: {kind: vocabulary, shares: ad_id}}}
  hour: {role: context, encoding: {kind: hour, of: shown_at}}
  position: {role: position, dtype: int64}
  clicked: {role: label, dtype: int64}
"""
)
SALT = Salt(b"sixteen bytes or more")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIELDS = ["user_id", "device", "ad_id", "price", "stock", "new_user", "history", "history.length", "pctr"]


def rows(count, *, seed, phone=0.6, ads=2_000, price=1.0, odds=0.0, requests=None):
    """Impressions of the market, each a request of its own unless `requests` says how many there are."""
    rng = np.random.default_rng(seed)
    ranks = 1 / np.arange(1, ads + 1)
    names = np.array([f"ad{i}" for i in range(ads)], object)
    lengths = rng.integers(0, 6, count)
    items = names[rng.choice(ads, lengths.sum(), p=ranks / ranks.sum())]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    request = np.sort(rng.integers(0, requests, count)) if requests else np.arange(count)
    return pa.table(
        {
            "impression_id": [f"i{seed}-{i}" for i in range(count)],
            "request_id": [f"r{seed}-{i}" for i in request],
            "shown_at": pa.array([NOON] * count, pa.timestamp("us", "UTC")),
            "user_id": pa.array([f"u{i}" for i in rng.integers(0, 500, count)]),
            "device": rng.choice(["phone", "desk", "tv"], count, p=[phone, 0.9 - phone, 0.1]),
            "ad_id": pa.array(names[rng.choice(ads, count, p=ranks / ranks.sum())], pa.string()),
            "price": pa.array((price * np.exp(rng.normal(3, 1, count))).astype(np.float32)),
            "stock": rng.integers(0, 50, count),
            "new_user": rng.random(count) < 0.3,
            "history": pa.ListArray.from_arrays(pa.array(offsets), pa.array(items, pa.string())),
            "position": rng.integers(1, 5, count),
            "clicked": rng.integers(0, 2, count),
            "pctr": (1 / (1 + np.exp(-rng.normal(-3 + odds, 1, count)))).astype(np.float32),
        }
    )


def write_bundle(folder, reference, contract=CONTRACT):
    """Returns the digest. Without a reference there is no file of it."""
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(contracts.dumps(contract))
    if reference is not None:
        pq.write_table(reference, folder / "reference.parquet")
    files = manifests.take_stock(folder)
    manifest = Manifest(
        name=contract.name,
        created=NOON,
        digest=manifests.digest_of(files),
        files=files,
        model=ModelFacts(name="lr", config={}, training={}),
        lineage=Lineage(
            data_digest="0" * 64, contract_digest=contract.digest, parent=None, code_version="0", seed=0,
            negatives_kept=1.0, positive_weight=1.0, splits={},
        ),
        versions={},
        metrics={},
    )  # fmt: skip
    (folder / manifests.MANIFEST).write_bytes(manifest.to_bytes())
    return manifest.digest


def logged(table, digest, *, at=NOON, kept=Kept.VALUES, shown=True, contract=CONTRACT):
    """The rows as the endpoint would have logged them at one moment."""
    raw = tensors.from_arrow(table, contract)
    pctr = table.column("pctr").to_numpy()
    ids = table.column("impression_id").to_pylist() if shown else None
    answer = Answered("r", int(at.timestamp() * 1e6), "shop", digest, raw, pctr, np.zeros_like(pctr), ids)
    written = to_table([answer], contract, kept, SALT)
    requests = table.column("request_id").combine_chunks()
    return written.set_column(0, "request_id", requests)


def write_log(folder, *tables):
    for number, table in enumerate(tables):
        LogFolder(folder, f"w{number}").write(table)
    return folder
