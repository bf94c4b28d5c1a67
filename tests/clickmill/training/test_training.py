"""Training as a whole: it learns, stops in time, repeats itself, and says why it can't."""

import json
import math

import numpy as np
import pytest

from clickmill.errors import DegenerateLabels, TrainingError, UnreadableData, UsageError
from clickmill.evaluation import auc, normalized_entropy
from clickmill.features import fit, tensors
from clickmill.models import MODELS
from clickmill.training import TrainedModel, TrainingConfig, schedule, train
from clickmill.training.encoded import labels_and_weights

QUICK = TrainingConfig(epochs=2, batch_size=512)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(float)))


@pytest.fixture(scope="module")
def trained(dataset, space, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    config = TrainingConfig(epochs=12, batch_size=256)
    return train(dataset, space, "fm", config=config, out=out), out


def test_training_finds_the_rule_on_rows_it_has_not_seen(trained, dataset):
    model, _ = trained
    y = dataset.columns("test", ["label"])["label"].to_numpy()
    assert (
        auc(y, _sigmoid(model.raw_logits_of(dataset, "test"))) > 0.7
    )  # without the pairs it stays below 0.66


def test_the_rows_of_fm_are_trained_in_units_of_its_fields_by_default(trained):
    fields = 4  # user, ad, history, price
    assert trained[0].meta["training_config"]["embedding_learning_rate"] == pytest.approx(0.1 / fields**0.5)
    assert trained[0].meta["training_config"]["l2"] == pytest.approx(10.0 * fields)


def test_the_folder_gives_back_the_same_model(trained, dataset):
    model, out = trained
    loaded = TrainedModel.load(out)
    np.testing.assert_array_equal(loaded.raw_logits_of(dataset, "test"), model.raw_logits_of(dataset, "test"))
    assert loaded.meta == model.meta
    assert loaded.contract == model.contract
    assert sorted(p.name for p in out.iterdir()) == [
        "history.json",
        "model.json",
        "row_state",
        "space",
        "weights",
    ]


def test_raw_logits_do_not_depend_on_how_rows_are_cut_into_blocks(trained, dataset, space):
    model, _ = trained
    raw = tensors.from_arrow(dataset.columns("test", list(space.contract.columns)), space.contract)
    halves = [{k: v[s] for k, v in raw.items()} for s in (slice(0, 999), slice(999, None))]
    cut = np.concatenate([model.raw_logits(half) for half in halves])
    np.testing.assert_allclose(cut, model.raw_logits(raw), rtol=1e-5, atol=1e-5)
    assert model.raw_logits({k: v[:0] for k, v in raw.items()}).shape == (0,)


def test_the_weights_kept_are_those_of_the_epoch_with_the_best_ne(trained, dataset, space):
    model, out = trained
    table = dataset.columns("validation", list(space.contract.columns))
    known = labels_and_weights(table, space.contract, "label")
    history = model.meta["history"]
    p = _sigmoid(model.raw_logits_of(dataset, "validation"))
    best = min(record["ne"] for record in history)
    assert normalized_entropy(known["label"], p, known["weight"]) == pytest.approx(best, abs=1e-6)
    assert [record["ne"] for record in history if record["epoch"] == model.meta["best_epoch"]] == [best]
    assert json.loads((out / "history.json").read_text()) == history
    assert all(record["samples_per_second"] > 0 for record in history)


def test_who_watches_auc_keeps_the_weights_of_the_best_auc(dataset, space, tmp_path):
    config = TrainingConfig(
        epochs=6, batch_size=64, embedding_learning_rate=1.0, l2=0.0, patience=5, watch="auc"
    )
    model = train(dataset, space, "fm", config=config, out=tmp_path)
    history = model.meta["history"]
    by_auc, by_ne = max(history, key=lambda r: r["auc"]), min(history, key=lambda r: r["ne"])
    assert model.meta["best_epoch"] == by_auc["epoch"]
    assert by_auc is not by_ne, "the two agree: the test shows nothing"
    y = dataset.columns("validation", ["label"])["label"].to_numpy()
    weight = dataset.columns("validation", ["importance"])["importance"].to_numpy()
    p = _sigmoid(model.raw_logits_of(dataset, "validation"))
    assert auc(y, p, weight) == pytest.approx(by_auc["auc"], abs=1e-6)


def test_meta_holds_what_the_prior_correction_needs(trained):
    model, _ = trained
    assert model.meta["negatives_kept"] == 0.5
    assert model.meta["positive_weight"] == 1.0
    assert model.meta["model"] == model.name == "fm"


def test_training_stops_when_validation_stops_improving(dataset, space, tmp_path):
    config = TrainingConfig(epochs=40, batch_size=64, embedding_learning_rate=1.0, patience=2)
    model = train(dataset, space, "fm", config=config, out=tmp_path)
    ne = [record["ne"] for record in model.meta["history"]]
    assert len(ne) < 40
    assert (
        len(ne) == int(np.argmin(ne)) + 1 + 3
    )  # the best, two epochs of patience, and the one that was too many


def test_evaluations_within_an_epoch_slow_learning_down_and_keep_the_best_weights(dataset, space, tmp_path):
    """3000 rows in batches of 64 are 47 steps, evaluated after 15, 31 and 47; a rate this large learns by heart at once."""
    config = TrainingConfig(
        epochs=30,
        batch_size=64,
        embedding_learning_rate=1.0,
        evaluations_per_epoch=3,
        patience=3,
        rate_decay=0.1,
        decay_patience=1,
    )
    history = train(dataset, space, "fm", config=config, out=tmp_path).meta["history"]
    ne = [record["ne"] for record in history]
    assert len(ne) == int(np.argmin(ne)) + 1 + 4
    assert [record["epoch"] for record in history[:4]] == pytest.approx([15 / 47, 31 / 47, 1, 62 / 47])
    assert [record["rate"] for record in history] == [schedule.rate(ne[:i], config) for i in range(len(ne))]
    assert history[-1]["rate"] < 0.5
    # What was learned at a tenth of the rate moved less: NE changes little from one evaluation to the next.
    slow = [abs(b - a) for a, b, record in zip(ne, ne[1:], history[1:], strict=False) if record["rate"] < 1]
    fast = [abs(b - a) for a, b, record in zip(ne, ne[1:], history[1:], strict=False) if record["rate"] == 1]
    assert max(slow) < max(fast)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_weights(name, dataset, space, tmp_path):
    config = {"dropout": 0.2, "units": [8]} if "dropout" in MODELS[name].config.model_fields else None
    weights = [
        train(
            dataset,
            space,
            name,
            model_config=config,
            config=QUICK.model_copy(update={"epochs": 1, "seed": seed}),
            out=tmp_path / str(run),
        ).keras_model.get_weights()
        for run, seed in enumerate((3, 3))
    ]
    for a, b in zip(weights[0], weights[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_weight_on_clicks_raises_the_odds_by_itself_and_leaves_the_ranking(dataset, space, tmp_path):
    config = TrainingConfig(epochs=8, batch_size=256, embedding_learning_rate=0.1)
    plain = train(dataset, space, "lr", config=config, out=tmp_path / "plain")
    heavy = train(
        dataset,
        space,
        "lr",
        config=config.model_copy(update={"positive_weight": 20.0}),
        out=tmp_path / "heavy",
    )
    shift = heavy.raw_logits_of(dataset, "test") - plain.raw_logits_of(dataset, "test")
    assert shift.mean() == pytest.approx(math.log(20), abs=0.15)
    # Its NE is judged after the correction, else it would be far above that of the plain model.
    assert heavy.meta["history"][-1]["ne"] == pytest.approx(plain.meta["history"][-1]["ne"], abs=0.03)


def test_progress_tells_samples_loss_and_ne(dataset, space, tmp_path):
    calls = []

    class Recorder:
        def start(self, task, total, unit):
            calls.append(("start", task, total, unit))

        def advance(self, n=1, **figures):
            calls.append(("advance", n, figures))

        def finish(self):
            calls.append(("finish",))

    train(dataset, space, "lr", config=QUICK, out=tmp_path, progress=Recorder())
    starts = [c[1:] for c in calls if c[0] == "start"]
    # one weight for padding, 12 users, 9 ads and an unknown of each, for a number, the bias and 3 positions; Adagrad keeps one more
    # number for each of the first 24, Adam two for each of the other 5; and how often the split names each of the 24 is counted
    weights, kept, counts = 24 + 5, 24 + 2 * 5, 24
    assert starts == [
        (f"model of {4 * (weights + kept + counts)} B", weights, "parameters"),
        ("encode train", 3000, "rows"),
        ("encode validation", 1000, "rows"),
        ("epoch 1 of at most 2", 3000, "samples"),
        ("epoch 2 of at most 2", 3000, "samples"),
    ]
    assert calls.count(("finish",)) == len(starts)
    assert sum(c[1] for c in calls if c[0] == "advance") == weights + 3000 + 1000 + 2 * 3000
    assert {"loss", "ne"} <= calls[-2][2].keys()


def test_a_loss_that_is_not_a_number_stops_training_with_the_place_and_the_remedy(dataset, space, tmp_path):
    config = TrainingConfig(batch_size=256, learning_rate=10.0, embedding_learning_rate=10.0)
    wild = {"units": [], "cross_layers": 8, "dim": 4}
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) at epoch \d+, step \d+: .* Lower learning_rate \(10\)"
    ):
        train(dataset, space, "dcn_v2", model_config=wild, config=config, out=tmp_path)


@pytest.mark.parametrize(("label", "lacking"), [(0, "clicks"), (1, "non-clicks")])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_of_one_class_is_refused(label, lacking, split, market, write, rows, space, tmp_path):
    tables = {"train": rows(200, 0), "validation": rows(200, 1)}
    column = tables[split].column_names.index("label")
    tables[split] = tables[split].set_column(column, "label", [np.full(200, label)])
    with pytest.raises(DegenerateLabels, match=f"the {split} split has no {lacking} among 200 rows"):
        train(write(market, tables), space, "lr", config=QUICK, out=tmp_path / "out")


def test_row_weights_count_in_the_loss(market, write, rows, tmp_path):
    """Weight 0 on a third of the rows teaches the same as leaving them out."""
    table = rows(3000, 0)
    weight = np.where(np.arange(3000) % 3 == 0, 0.0, 1.0).astype(np.float32)
    column = table.column_names.index("importance")
    weighted = table.set_column(column, "importance", [weight])
    kept = weighted.filter(weight > 0)
    models = []
    for name, train_rows in (("all", weighted), ("kept", kept)):
        dataset = write(market, {"train": train_rows, "validation": rows(500, 1), "test": rows(500, 2)}, name)
        models.append(
            train(
                dataset,
                fit(write(market, {"train": table}, f"space-{name}")),
                "lr",
                config=TrainingConfig(
                    epochs=20, patience=20, batch_size=len(train_rows), embedding_learning_rate=0.1
                ),
                out=tmp_path / name / "out",
            )
        )
    one, other = (m.raw_logits_of(dataset, "test") for m in models)
    # The bias starts at the weighted base rate and Adagrad sums per example, so the paths agree up to its scale.
    assert np.corrcoef(one, other)[0, 1] > 0.99
    assert np.abs(one - other).max() < 0.15


def test_settings_out_of_range_and_unknown_models_are_refused(dataset, space, tmp_path):
    with pytest.raises(UsageError, match="no model is called"):
        train(dataset, space, "gbdt", out=tmp_path)
    with pytest.raises(ValueError, match="less than or equal to 100"):
        TrainingConfig(positive_weight=101)


def test_a_folder_that_is_no_trained_model_is_named(tmp_path):
    with pytest.raises(UnreadableData, match=r"model\.json: not a readable trained model"):
        TrainedModel.load(tmp_path)


def test_every_setting_is_explained():
    assert all(info.description for info in TrainingConfig.model_fields.values())
