"""The training loop: steps, evaluations between them, decisions after each, checkpoints, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from clickmill.data import delay
from clickmill.errors import TrainingError
from clickmill.evaluation import auc, normalized_entropy
from clickmill.progress import Progress
from clickmill.training import schedule, weights
from clickmill.training.ahead import ahead
from clickmill.training.checkpoint import Checkpoints, EvaluationRecord, RunState
from clickmill.training.config import TrainingConfig
from clickmill.training.encoded import EncodedSplit
from clickmill.training.interruption import Interruption
from clickmill.training.loss import prior_shift
from clickmill.training.step import TrainStep
from clickmill.training.team import Predict, Team


@dataclass(frozen=True)
class Loop:
    """One run between its checkpoints: everything it reads and writes."""

    step: TrainStep
    predict: Predict
    """Logits of a split, with the weights as they are."""
    train: EncodedSplit
    validation: EncodedSplit
    config: TrainingConfig
    checkpoints: Checkpoints
    team: Team
    """Who takes the same steps at the same time."""
    progress: Progress
    on_evaluation: Callable[[EvaluationRecord], None] = lambda record: None
    """Hears of each evaluation once its checkpoint is written; what it raises ends the run there."""

    def run(self, state: RunState) -> RunState:
        """From `state`, whose variables are loaded, to the end; the best weights are then in `checkpoints.best_weights`.

        Raises KeyboardInterrupt, after saving, when Ctrl-C was pressed; TrainingError when the loss is not a number.
        """
        with Interruption() as interruption:
            while not self._finished(state):
                with closing(self._batches(state)) as batches:
                    state = self._epoch(state, batches, interruption)
        return state

    def _batches(self, state: RunState) -> Generator[tuple[int, Any], None, None]:
        """The rest of the current epoch's batches, each with its number of rows, prepared while the step before it runs."""
        batches = self.train.shuffled(
            self.config.batch_size,
            seed=self.config.seed,
            epoch=state.epoch,
            memory=self.config.shuffle_memory_mib << 20,
            first=state.step,
        )
        return ahead((len(batch["label"]), self.step.prepare(batch)) for batch in batches)

    def _epoch(
        self, state: RunState, batches: Iterator[tuple[int, Any]], interruption: Interruption
    ) -> RunState:
        """The rest of the current epoch, or as much of it as early stopping leaves."""
        config = self.config
        steps = -(-self.train.rows // config.batch_size)
        evaluations = schedule.evaluation_steps(steps, config.evaluations_per_epoch)
        self.progress.start(f"epoch {state.epoch + 1} of at most {config.epochs}", self.train.rows, "samples")
        self.progress.advance(min(state.step * config.batch_size, self.train.rows))
        while True:
            # Whoever resumes may stand on a step that was done and not yet evaluated.
            if state.step in evaluations and state.rows:
                state = self._evaluate(state, state.epoch + state.step / steps)
                if state.step == steps:
                    state = state.model_copy(update={"epoch": state.epoch + 1, "step": 0})
                self.checkpoints.save(state)
                self.on_evaluation(state.history[-1])
                if self._finished(state) or state.step == 0:
                    break
            self._stop_if(interruption, state)
            state = self._advance(state, batches)
            if state.step % config.checkpoint_every_steps == 0:
                self.checkpoints.save(state)
        self.progress.finish()
        if not self._finished(state):
            self._stop_if(interruption, state)
        return state

    def _advance(self, state: RunState, batches: Iterator[tuple[int, Any]]) -> RunState:
        began = time.perf_counter()
        size, batch = next(batches)
        loss = self.step.run(batch)
        if not math.isfinite(loss):
            raise TrainingError(self._diverged(loss, state))
        state = state.model_copy(
            update={
                "step": state.step + 1,
                "rows": state.rows + size,
                "loss_sum": state.loss_sum + loss * size,
                "seconds": state.seconds + time.perf_counter() - began,
            }
        )
        known = {"ne": state.history[-1].ne} if state.history else {}
        self.progress.advance(size, loss=state.loss_sum / state.rows, **known)
        return state

    def _evaluate(self, state: RunState, epoch: float) -> RunState:
        """NE and AUC on validation, and what follows from them."""
        logit = self.predict(self.validation)
        if not np.isfinite(logit).all():
            raise TrainingError(self._diverged(float("nan"), state))
        y, weight = self.validation.arrays["label"], self._validation_weight()
        p = self._believed(logit)
        # Machines of different kinds may differ in the last bit of a sum: what is decided from it would differ too.
        ne, area, speed = self.team.of_chief(
            [normalized_entropy(y, p, weight), auc(y, p, weight), state.rows / max(state.seconds, 1e-9)]
        )
        record = EvaluationRecord(
            epoch=epoch,
            loss=state.loss_sum / state.rows,
            ne=ne,
            auc=area,
            rate=schedule.rate(state.watched(self.config.watch), self.config),
            samples_per_second=speed,
        )
        state = RunState(epoch=state.epoch, step=state.step, history=(*state.history, record))
        if schedule.best(state.watched(self.config.watch)) == len(state.history) - 1 and self.team.chief:
            self.step.model.save_weights(self.checkpoints.best_weights)
            weights.save(self.step.row_state, self.checkpoints.best_row_state)
        self.step.rate.assign(schedule.rate(state.watched(self.config.watch), self.config))
        return state

    def _believed(self, logit: np.ndarray) -> np.ndarray:
        """P(label = 1) (n,) of validation's rows. They are sampled like train's, so that only w+ is taken back; but where clicked
        impressions are non-clicks too, the odds of a click are p itself."""
        loss = self.step.loss
        log_odds = (logit + prior_shift(self.config.positive_weight)).astype(np.float64)
        if loss.fake_negatives:
            log_kept = math.log(loss.negatives_kept)
            log_odds = -np.logaddexp(0.0, -(log_odds + log_kept)) - log_kept
        return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))

    def _validation_weight(self) -> np.ndarray | None:
        """The contract's weight, times what makes labels ripe that are not yet."""
        arrays, loss = self.validation.arrays, self.step.loss
        if "known" not in arrays:
            return arrays.get("weight")
        clicked, known = np.asarray(arrays["label"]) == 1, np.asarray(arrays["known"], np.float64)
        if loss.fake_negatives:
            ripening = np.where(clicked, 1 / known, 1.0)
        else:
            ripening = delay.weights(clicked, known, negatives_kept=loss.negatives_kept)
        return ripening * arrays.get("weight", np.float32(1))

    def _finished(self, state: RunState) -> bool:
        return state.epoch >= self.config.epochs or schedule.finished(
            state.watched(self.config.watch), self.config
        )

    def _stop_if(self, interruption: Interruption, state: RunState) -> None:
        if self.team.any(interruption.requested):
            self.checkpoints.save(state)
            raise KeyboardInterrupt(
                f"training stopped at epoch {state.epoch + 1}, step {state.step}; saved in {self.checkpoints.folder}. "
                "Run the same command again to go on from there"
            )

    def _diverged(self, loss: float, state: RunState) -> str:
        return (
            f"the loss is {loss} at epoch {state.epoch + 1}, step {state.step + 1}: training diverged. Lower learning_rate "
            f"({self.config.learning_rate:g}) or embedding_learning_rate ({self.config.embedding_learning_rate:g}), and look for "
            "extreme values in the numeric fields (encode them as log1p)"
        )
