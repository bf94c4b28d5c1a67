"""A warm start answers as the champion did until its first step, whatever grew, and gets to the same NE sooner than from scratch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from clickmill.contract import FeatureContract, dumps, loads
from clickmill.data import PreparedDataset
from clickmill.errors import ContractError, UsageError
from clickmill.features import Encoder, FeatureSpace, fit, tensors
from clickmill.features.growth import grown, origins
from clickmill.models import MODELS, build, configure
from clickmill.training import TrainedModel, TrainingConfig, train
from clickmill.training.warm_start import inherit, inherit_row_state

TINY = TrainingConfig(epochs=1, batch_size=128)


def replaced(table: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def tomorrow_rows(rows: Callable[[int, int], pa.Table], n: int, seed: int) -> pa.Table:
    """Rows by the market's own rule, with users and ads that nobody has seen yet, and slots that are deeper."""
    table, rng = rows(n, seed), np.random.default_rng(seed)
    user, ad, position = rng.integers(6, 16, n), rng.integers(3, 12, n), rng.integers(1, 6, n)
    price = table["price"].to_numpy()
    logit = -1.0 + 2.0 * ((user + ad) % 3 == 0) - 0.5 * price - 0.4 * position
    history = [rng.integers(0, 12, k).tolist() for k in rng.integers(0, 5, n)]
    return replaced(
        table,
        user=pa.array([f"u{k}" for k in user]),
        ad=pa.array(ad),
        history=pa.array(history, pa.list_(pa.int64())),
        position=pa.array(position),
        label=pa.array((rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)),
    )


@pytest.fixture
def tomorrow(
    market: FeatureContract, rows: Callable[[int, int], pa.Table], write: Callable[..., PreparedDataset]
) -> PreparedDataset:
    splits = {
        name: tomorrow_rows(rows, n, seed) for name, n, seed in [("train", 1500, 3), ("validation", 1000, 4)]
    }
    return write(market, splits, name="tomorrow", digest="1")


def champion_of(space: FeatureSpace, model: str, config: dict[str, Any], **meta: Any) -> TrainedModel:
    """A model whose every weight says something."""
    built = build(model, space, config, seed=1)
    rng = np.random.default_rng(5)
    for variable in built.variables:
        if "float" in variable.dtype:
            value = np.asarray(variable)
            variable.assign(value + 0.3 * rng.random(value.shape).astype(np.float32))
    for layer in built.layers:
        if layer.name == "examination":
            layer.prior.assign(math.log(1 / 0.5))  # told by the trainer, not learned
    told = {
        "negatives_kept": 0.5,
        "positive_weight": 1.0,
        "model_config": configure(model, config).model_dump(mode="json"),
        "training_config": TINY.model_dump(mode="json"),
    }
    return TrainedModel(space, model, built, Encoder(space), told | meta)


def raw_logits(space: FeatureSpace, model: Any, table: pa.Table) -> np.ndarray:
    return TrainedModel(space, "", model, Encoder(space), {}).raw_logits(
        tensors.from_arrow(table, space.contract)
    )


@pytest.mark.parametrize(
    ("name", "position"), [*((name, "additive") for name in MODELS), ("fm", "examination")]
)
def test_until_its_first_step_it_answers_as_the_champion(name, position, space, tomorrow, rows):
    champion = champion_of(space, name, {"position": position})
    now = grown(fit(tomorrow), space)
    assert now.table_rows == space.table_rows + 7, "4 users and 3 ads are new"
    assert now.positions == 5
    model = build(name, now, {"position": position}, seed=2)
    told = inherit(model, now, champion, log_prior=math.log(1 / 0.5))
    assert (told.rows_new, told.weights_fresh) == (7, ())
    known, strange = rows(200, 8), tomorrow_rows(rows, 200, 9)
    # DIN sees whether an item of the history is the candidate itself: two new ads, once alike, are now told apart.
    for table in [known] if name == "din" else [known, strange]:
        expected = raw_logits(space, champion.keras_model, table)
        assert np.abs(raw_logits(now, model, table) - expected).max() < 2e-5


@pytest.mark.parametrize("position", ["additive", "examination"])
def test_another_prior_of_the_training_rows_shifts_every_logit_by_itself(position, space, rows):
    # champion: half of the non-clicks; now: a tenth of them, and a click counts three times
    champion = champion_of(space, "lr", {"position": position})
    model = build("lr", space, {"position": position})
    inherit(model, space, champion, log_prior=math.log(3 / 0.1))
    table = rows(100, 8)
    shift = raw_logits(space, model, table) - raw_logits(space, champion.keras_model, table)
    assert shift == pytest.approx(np.full(100, math.log(3 / 0.1) - math.log(1 / 0.5)), abs=1e-4)


def test_a_field_more_keeps_the_rows_and_starts_only_what_changes_shape_afresh(space, market, tomorrow):
    text = dumps(market).replace(
        "  label:",
        "  slot_size:\n    role: context\n    dtype: int64\n    encoding: {kind: hash, buckets: 4}\n  label:",
    )
    wider = loads(text)
    learned = fit(tomorrow)
    now = grown(FeatureSpace(wider, learned.vocabularies, learned.edges, learned.moments, 5), space)
    champion = champion_of(space, "dcn_v2", {"units": [8], "cross_layers": 1, "dim": 4})
    model = build("dcn_v2", now, {"units": [8], "cross_layers": 1, "dim": 4}, seed=2)
    drawn = [np.asarray(v).copy() for v in model.variables]
    told = inherit(model, now, champion, log_prior=math.log(2))
    table = next(layer.table for layer in model.layers if layer.name == "embedding")
    old = next(layer.table for layer in champion.keras_model.layers if layer.name == "embedding")
    assert np.array_equal(np.asarray(table)[:13], np.asarray(old)[:13]), "padding and the champion's users"
    assert np.array_equal(np.asarray(table)[-4:], drawn[0][-4:]), "rows of the new field are as drawn"
    fresh = [
        v for v, before in zip(model.variables, drawn, strict=True) if np.array_equal(np.asarray(v), before)
    ]
    assert {v.path for v in fresh if "seed" not in v.path} == set(told.weights_fresh)
    # x0 is wider: cross kernel and bias, the first layer of the tower, and the kernel of the cross's logit
    assert len(told.weights_fresh) == 4
    assert "4 dense weights of another shape begin afresh" in told.message


def test_it_reaches_in_one_epoch_what_takes_several_from_scratch(dataset, space, tomorrow, tmp_path):
    config = TrainingConfig(epochs=6, batch_size=128, patience=6)
    settings = {"dim": 4, "units": [16], "dropout": 0.0}
    first = train(dataset, space, "dcn_v2", model_config=settings, config=config, out=tmp_path / "first")
    scratch = train(
        tomorrow, fit(tomorrow), "dcn_v2", model_config=settings, config=config, out=tmp_path / "scratch"
    )
    one = config.model_copy(update={"epochs": 1})
    warm = train(
        tomorrow, fit(tomorrow), "dcn_v2", model_config=settings, config=one, start=TrainedModel.load(tmp_path / "first"), out=tmp_path / "warm",
    )  # fmt: skip
    from_scratch = [record["ne"] for record in scratch.meta["history"]]
    assert warm.meta["history"][0]["ne"] < from_scratch[0] - 0.01, "ahead after as many samples"
    assert warm.meta["history"][0]["ne"] < from_scratch[1], "and after half as many"
    assert warm.meta["started_from"] == first.meta["identity"]
    assert scratch.meta["started_from"] is None
    assert warm.meta["identity"] != scratch.meta["identity"]
    assert set(warm.space.vocabularies["user"].to_pylist()) == {f"u{k}" for k in range(16)}
    assert TrainedModel.load(tmp_path / "warm").space == warm.space


def test_the_optimizer_goes_on_with_what_it_knows_of_old_rows(space, tomorrow):
    now = grown(fit(tomorrow), space)
    champion = champion_of(space, "lr", {})
    sums = np.arange(1.0, space.table_rows + 1, dtype=np.float32)[:, None]
    champion = dataclasses.replace(champion, row_state=(sums,))
    ours = tf.Variable(tf.ones([now.table_rows, 1]))
    inherit_row_state([ours], now, champion, TINY)
    rows, new = origins(now, space)
    assert ours.numpy()[~new, 0].tolist() == (rows[~new] + 1.0).tolist()
    assert ours.numpy()[new, 0].tolist() == [1.0] * 7, "new values begin as any row does"
    before = ours.numpy()
    other = TINY.model_copy(update={"linear_optimizer": "ftrl"})
    inherit_row_state([ours], now, dataclasses.replace(champion, row_state=(sums + 9,)), other)
    assert np.array_equal(ours.numpy(), before), "another optimizer's numbers mean something else"


def test_another_model_or_setting_is_refused(dataset, space, tmp_path):
    champion = champion_of(space, "lr", {}, identity="c")
    with pytest.raises(UsageError, match="a fm can't start from a lr"):
        train(dataset, space, "fm", config=TINY, start=champion, out=tmp_path / "a")
    champion = champion_of(space, "fm", {"dim": 4}, identity="c")
    with pytest.raises(UsageError, match=r"dim=8: the champion was trained with 4.*train from scratch"):
        train(dataset, space, "fm", config=TINY, start=champion, out=tmp_path / "a")
    assert not (tmp_path / "a").exists(), "nothing was encoded yet"


def test_a_field_of_another_meaning_is_refused_before_anything_is_written(dataset, space, market, tmp_path):
    other = loads(dumps(market).replace("standardize", "log1p"))
    champion = champion_of(
        FeatureSpace(other, space.vocabularies, space.edges, space.moments, 3), "lr", {}, identity="c"
    )
    with pytest.raises(
        ContractError, match=r"fields\.price.encoding.kind: is 'standardize', and was 'log1p'"
    ):
        train(dataset, space, "lr", config=TINY, start=champion, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_champions_own_weights_are_left_alone(dataset, space, tmp_path: Path):
    champion = champion_of(space, "lr", {}, identity="c")
    before = [np.asarray(v).copy() for v in champion.keras_model.variables]
    train(dataset, space, "lr", config=TINY, start=champion, out=tmp_path / "a")
    assert all(
        np.array_equal(a, np.asarray(b)) for a, b in zip(before, champion.keras_model.variables, strict=True)
    )
