"""A training run as a whole: from a prepared dataset and a model's name to a trained model on disk."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.data.delay import DelayedClicks
from clickmill.errors import DegenerateLabels
from clickmill.features import FeatureSpace
from clickmill.features.growth import grown
from clickmill.models import MODELS, ModelConfig, build, configure
from clickmill.models.size import SizeEstimate, estimate, in_bytes
from clickmill.progress import SILENT, Progress
from clickmill.training import position_curve, schedule, weights
from clickmill.training.checkpoint import Checkpoints, EvaluationRecord, RunState
from clickmill.training.config import TrainingConfig
from clickmill.training.encoded import EncodedSplit, encode
from clickmill.training.trained import TrainedModel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from clickmill.data import PreparedDataset
    from clickmill.training.loss import ClickLoss
    from clickmill.training.team import Team


def train(
    dataset: PreparedDataset,
    space: FeatureSpace,
    model: str,
    *,
    model_config: ModelConfig | dict[str, Any] | None = None,
    config: TrainingConfig | None = None,
    start: TrainedModel | None = None,
    strategy: tf.distribute.Strategy | None = None,
    out: Path,
    progress: Progress | None = None,
    on_evaluation: Callable[[EvaluationRecord], None] = lambda record: None,
) -> TrainedModel:
    """Train a model by name on the train split, stop early by NE on the validation split, keep the weights of the best evaluation.

    Writes the folder described at TrainedModel to `out`; while running, `out/checkpoint/` holds the encoded splits and the
    last checkpoint. Ctrl-C finishes the step, saves and raises KeyboardInterrupt; the same call then goes on where it stopped and
    ends with the weights an undisturbed run would have. The same data, settings and seed give the same weights.

    start: a trained model of the same name and hyperparameters, the champion, to begin from instead of from nothing; `space` then
    only tells what is new, and the model is trained over `features.growth.grown(space, start.space)`.

    strategy: devices and machines that share each batch (`training.cluster.strategy`); None: one device. Every worker makes the same
    call, with an `out` that all of them see; one of them, the chief, writes there.

    on_evaluation: hears of each evaluation; what it raises ends the training, and the checkpoint stays.

    Raises DegenerateLabels when a split has one class only, TrainingError when the loss is not a number, the log does not decide the
    position curve, `out` holds the checkpoint of another run, or another worker is lost, UsageError for an unknown model or setting,
    or one that `start` was not trained with, ContractError where a field means something else than it did for `start`, or one is
    lacking that a setting reads.
    """
    from clickmill.training.team import Alone
    from clickmill.training.warm_start import refuse_another_kind

    team: Team = Alone()
    if strategy is not None:
        from clickmill.training.replicas import Replicas

        team = Replicas(strategy)
    config, progress = config or TrainingConfig(), progress or SILENT
    typed = configure(model, model_config)
    if start is not None:
        refuse_another_kind(model, typed, start)
        space = grown(space, start.space)
    suited = asdict(MODELS[model].row_defaults(space))
    config = config.model_copy(
        update={name: value for name, value in suited.items() if getattr(config, name) is None}
    )
    with team.losses(out):
        trained = _train(dataset, space, model, typed, config, start, team, out, progress, on_evaluation)
    # A model of mirrored variables is of no use outside its strategy.
    return trained if strategy is None else TrainedModel.load(out)


def _train(
    dataset: PreparedDataset,
    space: FeatureSpace,
    model: str,
    typed: ModelConfig,
    config: TrainingConfig,
    start: TrainedModel | None,
    team: Team,
    out: Path,
    progress: Progress,
    on_evaluation: Callable[[EvaluationRecord], None],
) -> TrainedModel:
    from clickmill.features import Encoder
    from clickmill.training.loop import Loop
    from clickmill.training.team import agree
    from clickmill.training.warm_start import inherit, inherit_row_state

    size = estimate(
        space,
        model,
        typed,
        embedding_optimizer=config.embedding_optimizer,
        linear_optimizer=config.linear_optimizer,
    )
    _tell_size(size, progress)
    encoder = Encoder(space)
    work = out / "checkpoint"
    with team.chief_first(work):
        splits = {
            split: encode(dataset, split, encoder, work / "encoded" / split, progress=progress)
            for split in ("train", "validation")
        }
    loss = _loss_of(dataset, config)
    base_odds = {split: _odds(split, encoded, loss) for split, encoded in splits.items()}
    log_prior = math.log(config.positive_weight) - math.log(dataset.negatives_kept)
    with team.variables():
        keras_model = build(model, space, typed, seed=config.seed)
        if start is None:
            _start_at(keras_model, math.log(base_odds["train"] * config.positive_weight), prior=log_prior)
        else:
            inherit(keras_model, space, start, log_prior=log_prior)
        _tell_slot_shares(keras_model, splits["train"], loss)
        curve = position_curve.hold(keras_model, dataset) if config.position_curve == "propensities" else None
        stepper = team.step(keras_model, config, next(splits["train"].batches(1)), splits["train"])
        stepper.loss = loss
        if start is not None:
            inherit_row_state(stepper.row_state, space, start, config)

    settings = {
        "model": model,
        "model_config": typed.model_dump(mode="json"),
        "training_config": config.model_dump(mode="json"),
        "contract_digest": space.contract.digest,
        "space_digest": space.digest,
        "data_digest": dataset.meta.data_digest,
        "started_from": None if start is None else start.meta["identity"],
    }
    decides = json.dumps(settings, sort_keys=True) + dataset.meta.model_dump_json()
    identity = hashlib.sha256(decides.encode()).hexdigest()
    checkpoints = Checkpoints(work, stepper.variables, identity, writes=team.chief)
    state = checkpoints.restore() or RunState()
    agree(team, state, identity, work)
    stepper.settle()
    loop = Loop(
        step=stepper,
        predict=team.predictor(keras_model, splits["validation"]),
        train=splits["train"],
        validation=splits["validation"],
        config=config,
        checkpoints=checkpoints,
        team=team,
        progress=progress,
        on_evaluation=on_evaluation,
    )
    state = loop.run(state)

    meta = {
        **settings,
        "identity": identity,
        "negatives_kept": dataset.negatives_kept,
        "positive_weight": config.positive_weight,
        "history": [record.model_dump() for record in state.history],
        "best_epoch": state.history[schedule.best(state.watched(config.watch))].epoch,
        "position_curve": None if curve is None else asdict(curve),
    }
    row_state = weights.read(checkpoints.best_row_state)
    trained = TrainedModel(space, model, keras_model, encoder, meta, row_state)
    del splits, loop  # the memory maps go before their files do
    team.any(False)  # nobody has them open any more
    with team.chief_first(out):
        if team.chief:
            keras_model.load_weights(checkpoints.best_weights)
            trained.save(out)
            shutil.rmtree(work)
    return trained


def _start_at(model: keras.Model, log_odds: float, *, prior: float) -> None:
    """Start the bias at the base rate: the first steps then teach differences between ads, not how rare a click is.

    log_odds: of the train split, weighted by w+. prior: how far they are above those of traffic. A shift that the bias takes up,
    unless an examination product stands behind it, which is true of traffic only.
    """
    from clickmill.models.logit import BIAS, EXAMINATION

    for layer in model.layers:
        if layer.name == EXAMINATION:
            layer.prior.assign(prior)
            log_odds -= prior
    model.get_layer(BIAS).value.assign(log_odds)


def _loss_of(dataset: PreparedDataset, config: TrainingConfig) -> ClickLoss:
    from clickmill.training.loss import ClickLoss

    ripeness = dataset.meta.ripeness
    return ClickLoss(
        positive_weight=config.positive_weight,
        negatives_kept=dataset.negatives_kept,
        fake_negatives=ripeness is not None and ripeness.treatment is DelayedClicks.FAKE_NEGATIVES,
    )


def _tell_slot_shares(model: keras.Model, train: EncodedSplit, loss: ClickLoss) -> None:
    """Where the contract asks for the average slot: how often each slot was shown in traffic, dropped non-clicks counted."""
    from clickmill.models.logit import EXAMINATION, POSITION_BIAS

    for layer in model.layers:
        if layer.name in (EXAMINATION, POSITION_BIAS) and layer.average:
            clicks = 1.0 - loss.fake_negatives  # their impressions are among the non-clicks then
            stands_for = np.where(train.arrays["label"] == 1, clicks, 1.0 / loss.negatives_kept)
            # the row behind the last is that of slots not logged
            shown = np.bincount(train.arrays["position"], stands_for, minlength=layer.positions)[
                : layer.positions
            ]
            if shown.any():
                layer.share.assign(shown / shown.sum())


def _tell_size(size: SizeEstimate, progress: Progress) -> None:
    """A line that says what the run will hold, before it holds it."""
    progress.start(f"model of {in_bytes(size.training_bytes)}", size.parameters, "parameters")
    progress.advance(size.parameters)
    progress.finish()


def _odds(split: str, encoded: EncodedSplit, loss: ClickLoss) -> float:
    """Odds of a click among the rows, had their labels known all and stood each impression there once."""
    y = np.asarray(encoded.arrays["label"], np.float64)
    weight = np.asarray(encoded.arrays.get("weight", np.ones_like(y)), np.float64)
    clicked = y / np.asarray(encoded.arrays.get("known", np.ones_like(y)), np.float64)
    among_others = clicked if loss.fake_negatives else clicked - y
    clicks = float(weight @ clicked)
    others = float(weight @ (1 - y - loss.negatives_kept * among_others))
    if clicks <= 0 or others <= 0:
        lacking = "clicks" if clicks <= 0 else "non-clicks"
        raise DegenerateLabels(
            f"the {split} split has no {lacking} among {len(y):,} rows, so nothing can be learned; check the label field and the "
            "join of the clicks, or prepare a longer period"
        )
    return clicks / others
