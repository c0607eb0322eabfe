"""The loop over epochs: steps, validation, checkpoints, and going on after a kill."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from avpipe.pipeline import progress
from avpipe.pipeline.errors import AvpipeError, CacheMismatch, CorruptionFound
from avpipe.stages import checkpoint, runs
from avpipe.stages.best import best_epoch, in_short, selected_by
from avpipe.stages.features import ClipFeatures, FeatureBatch
from avpipe.stages.inference import predict_samples
from avpipe.stages.loader import BatchReader
from avpipe.stages.model import build_model
from avpipe.stages.optimizer import learning_rate, make_optimizer, seed_everything, take_step
from avpipe.stages.order import digest, quality_in_words
from avpipe.stages.running import Running, peak_memory
from avpipe.stages.runs import RunConfig
from avpipe.stages.start import load_start
from avpipe.stages.step_log import StepLog
from avpipe.stages.tasks import Task

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk

Side = tuple[ClipFeatures, Task]


class Trainer:
    """Trains one run.

    Args:
        run: the run folder.
        config: its settings.
        training: features of the training samples and the rules for them.
        validation: the same for the validation samples, from the same store; may hold none.
        device: where to train.
        trunks: frozen backbones that the model runs itself, see `model.open_trunks`.
        checkpoint_seconds: seconds after the last checkpoint at which one is written within an epoch; 0: at every step.
    """

    def __init__(
        self,
        run: Path,
        config: RunConfig,
        training: Side,
        validation: Side,
        device: torch.device,
        *,
        trunks: dict[str, Trunk] | None = None,
        checkpoint_seconds: float = 300.0,
    ) -> None:
        self.run, self.settings, self.device = run, config.train, device
        self.data, self.task = training
        self.val_data, self.val_task = validation
        self.reader = BatchReader(self.data.store, self.settings.batch, device)
        self.checkpoint_seconds = checkpoint_seconds
        seed_everything(self.settings.seed, epoch=0)
        self.model = build_model(config.model, self.settings, trunks)
        load_start(self.model, run, config)
        self.model.to(device)
        self.optimizer = make_optimizer(self.model, self.settings)
        self.history: list[dict[str, Any]] = []
        self.running: Running | None = None
        self._saved = time.monotonic()

    def fit(self, *, resume: bool = False) -> None:
        """Trains up to the last epoch; with `resume`, from the step after the last checkpoint."""
        logged = self._go_on() if resume else 0
        self._say_shuffle()
        done, epochs = len(self.history), self.settings.epochs
        with (
            StepLog(self.run / runs.STEPS, logged) as self.log,
            progress.task("train", epochs, "epochs", done=done) as bar,
        ):
            self._saved = time.monotonic()
            for epoch in range(done + 1, epochs + 1):
                record = self._epoch(epoch)
                self._keep(record)
                bar.advance(1, in_short(record))
        best = best_epoch(self.history)
        if best is not None:
            progress.say(f"kept: epoch {best['epoch']} of {epochs} ({selected_by(self.history)}), {in_short(best)}")

    def _go_on(self) -> int:
        """Takes up the last checkpoint; returns how many steps had been logged by then."""
        last = self.run / runs.LAST
        if not last.exists():
            progress.say(f"run {self.run} has no checkpoint: it starts from the first step")
            return 0
        facts = checkpoint.restore(last, self.model, self.optimizer)
        self.history = facts["history"]
        self.running = Running(**facts["running"]) if facts.get("running") else None
        self._refuse_other_order()
        self._mend_best()
        self._write_epochs()
        done, epochs = len(self.history), self.settings.epochs
        where = "is finished" if done >= epochs else "goes on"
        within = f", and {self.running.step} steps of the next" if self.running else ""
        progress.say(f"run {self.run} {where}: {done} of {epochs} epochs are done{within}")
        return int(facts.get("steps", 0))

    def _refuse_other_order(self) -> None:
        """Within an epoch only its own order goes on: in another one samples would come twice, and others never."""
        running = self.running
        if running is not None and running.order != self._digest(self._order(running.epoch)):
            raise CacheMismatch(
                f"run {self.run} was stopped within epoch {running.epoch}, after {running.step} steps, and the samples "
                "of that epoch come in another order now: clips were added to the cache or taken from it, the "
                "annotations were changed, or (shuffle=block) this cache has its clips in other units. Go on with the "
                "cache and the dataset as they were (--cache, --root), or train again"
            )

    def _mend_best(self) -> None:
        """Brings the best checkpoint up to the history: a stop right after `LAST` was written leaves it behind."""
        best = best_epoch(self.history)
        if best is None:
            return
        if best is self.history[-1] and self.running is None:  # these are the weights that were just restored
            self._save_best()
            return
        path = self.run / runs.BEST
        held = checkpoint.read(path)[1]["epoch"]
        if held != best["epoch"]:
            raise CorruptionFound(
                f"{path} holds epoch {held}, the history of the run has epoch {best['epoch']} as the best: "
                "restore the file, or train again"
            )

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """One pass over the training samples, or the rest of one, and one over the validation samples."""
        running = self._begin(epoch)
        self._steps(running)
        start = time.perf_counter()
        score = self._validate()
        self.running = None
        return {
            "epoch": epoch,
            "train_loss": running.loss / running.samples,
            f"{self.settings.select}_{self.val_task.metric}": score,
            "lr": running.lr,
            "train_seconds": round(running.seconds, 4),
            "wait_seconds": round(running.waited, 4),
            "val_seconds": round(time.perf_counter() - start, 4),
            **peak_memory(self.device),
        }

    def _begin(self, epoch: int) -> Running:
        """The epoch that a checkpoint broke off, its random numbers restored with it, or a new one."""
        if self.running is None:
            seed_everything(self.settings.seed, epoch)
            self.running = Running(epoch, order=self._digest(self._order(epoch)))
        return self.running

    def _steps(self, running: Running) -> None:
        """The steps of an epoch that are not done yet."""
        order = self._order(running.epoch)
        before, total = (running.epoch - 1) * len(order), self.settings.epochs * len(order)
        seconds, waited = running.seconds - time.perf_counter(), running.waited - self.reader.waited
        self.model.train()
        with self.reader.batches(self.data, order[running.step :]) as batches:
            for batch in batches:
                running.lr = learning_rate(self.settings, before + running.step, total)
                value = self._step(batch, running.lr)
                self._refuse_infinite(value, running)
                running.step += 1
                running.loss += value * len(batch.indices)
                running.samples += len(batch.indices)
                running.seconds, running.waited = seconds + time.perf_counter(), waited + self.reader.waited
                self.log.add(running.epoch, running.step, value, running.lr)
                if time.monotonic() - self._saved >= self.checkpoint_seconds:
                    self._save_last()

    def _order(self, epoch: int) -> list[list[int]]:
        settings = self.settings
        block = settings.block_units if settings.shuffle == "block" else 0
        return list(self.data.batches(settings.batch, seed=settings.seed, epoch=epoch, block_units=block))

    def _digest(self, order: list[list[int]]) -> str:
        return digest([[self.data.samples[place].id for place in batch] for batch in order])

    def _step(self, batch: FeatureBatch, rate: float) -> float:
        clip_norm = self.settings.clip_norm
        return take_step(self.model, self.optimizer, self.task, batch, rate=rate, clip_norm=clip_norm)

    def _refuse_infinite(self, value: float, running: Running) -> None:
        if not math.isfinite(value):
            raise AvpipeError(
                f"the loss is {value} in epoch {running.epoch}, batch {running.step}: train again with a lower lr "
                f"(it was {self.settings.lr}); epochs up to {running.epoch - 1} are kept in {self.run}"
            )

    def _validate(self) -> float | None:
        if not self.val_data.held:  # blank predictions alone would score all epochs the same
            return None
        size, reader = self.settings.batch, self.reader
        return self.val_task.validate(
            predict_samples(self.model, self.val_data, self.val_task, batch=size, device=self.device, reader=reader)
        )

    def _keep(self, record: dict[str, Any]) -> None:
        """Writes what an epoch gave. The last checkpoint comes first: it holds the history and, if the epoch is the
        best, the best weights too, so after a kill in between the other files are made from it."""
        self.history.append(record)
        self._save_last()
        if best_epoch(self.history) is record:
            self._save_best()
        self._write_epochs()

    def _save_last(self) -> None:
        """All that decides what follows: weights, optimizer, history and, within an epoch, its sums and torch's random
        numbers. Within an epoch the best checkpoint is never behind the history, see `_keep`."""
        self.log.sync()
        running = asdict(self.running) if self.running else None
        facts = {"epoch": len(self.history), "history": self.history, "running": running, "steps": self.log.lines}
        checkpoint.save(self.run / runs.LAST, self.model, facts, self.optimizer, random=running is not None)
        self._saved = time.monotonic()

    def _save_best(self) -> None:
        facts = {"epoch": self.history[-1]["epoch"], "selected_by": selected_by(self.history)}
        checkpoint.save(self.run / runs.BEST, self.model, facts)

    def _write_epochs(self) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        checkpoint.write_atomic(self.run / runs.EPOCHS, lines.encode())

    def _say_shuffle(self) -> None:
        settings, data = self.settings, self.data
        if settings.shuffle == "block" and data.held:
            line = quality_in_words(data.held, data.units, settings.block_units, settings.batch, settings.seed)
            progress.say(line)
