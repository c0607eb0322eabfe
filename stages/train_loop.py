"""The loop over epochs: steps, validation, checkpoints, and going on after a kill."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from avpipe.pipeline import progress
from avpipe.pipeline.errors import AvpipeError, CorruptionFound
from avpipe.stages import checkpoint, runs
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import ClipFeatures
from avpipe.stages.inference import predict_samples
from avpipe.stages.model import build_model
from avpipe.stages.runs import RunConfig
from avpipe.stages.tasks import Task

Side = tuple[ClipFeatures, Task]


class Trainer:
    """Trains one run.

    Args:
        run: the run folder.
        config: its settings.
        training: features of the training samples and the rules for them.
        validation: the same for the validation samples; may hold none.
        device: where to train.
    """

    def __init__(self, run: Path, config: RunConfig, training: Side, validation: Side, device: torch.device) -> None:
        self.run, self.settings, self.device = run, config.train, device
        self.data, self.task = training
        self.val_data, self.val_task = validation
        seed_everything(self.settings.seed, epoch=0)
        self.model = build_model(config.model, self.settings).to(device)
        self.optimizer = make_optimizer(self.model, self.settings)
        self.history: list[dict[str, Any]] = []

    def fit(self, *, resume: bool = False) -> None:
        """Trains up to the last epoch; with `resume`, from the one after the last that was finished."""
        if resume:
            self._go_on()
        done, epochs = len(self.history), self.settings.epochs
        with progress.task("train", epochs, "epochs", done=done) as bar:
            for epoch in range(done + 1, epochs + 1):
                record = self._epoch(epoch)
                self._keep(record)
                bar.advance(1, _in_short(record))
        best = best_epoch(self.history)
        if best is not None:
            progress.say(f"kept: epoch {best['epoch']} of {epochs} ({selected_by(self.history)}), {_in_short(best)}")

    def _go_on(self) -> None:
        last = self.run / runs.LAST
        if not last.exists():
            progress.say(f"run {self.run} has no finished epoch: it starts from the first")
            return
        facts = checkpoint.restore(last, self.model, self.optimizer)
        self.history = facts["history"]
        self._mend_best()
        self._write_epochs()
        done, epochs = len(self.history), self.settings.epochs
        where = "is finished" if done >= epochs else "goes on"
        progress.say(f"run {self.run} {where}: {done} of {epochs} epochs are done")

    def _mend_best(self) -> None:
        """Brings the best checkpoint up to the history: a stop right after `LAST` was written leaves it behind."""
        best = best_epoch(self.history)
        if best is None:
            return
        if best is self.history[-1]:  # these are the weights that were just restored
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
        """One pass over the training samples and one over the validation samples."""
        start = time.perf_counter()
        seed_everything(self.settings.seed, epoch)
        self.model.train()
        loss, segments = 0.0, 0
        batches = list(self.data.batches(self.settings.batch, seed=self.settings.seed, epoch=epoch))
        for number, indices in enumerate(batches):
            step = (epoch - 1) * len(batches) + number
            rate = learning_rate(self.settings, step, self.settings.epochs * len(batches))
            value = self._step(indices, rate)
            if not math.isfinite(value):
                raise AvpipeError(
                    f"the loss is {value} in epoch {epoch}, batch {number}: train again with a lower lr "
                    f"(it was {self.settings.lr}); epochs up to {epoch - 1} are kept in {self.run}"
                )
            loss, segments = loss + value * len(indices), segments + len(indices)
        trained = time.perf_counter()
        score = self._validate()
        return {
            "epoch": epoch,
            "train_loss": loss / segments,
            f"val_{self.val_task.metric}": score,
            "lr": rate,
            "train_seconds": round(trained - start, 4),
            "val_seconds": round(time.perf_counter() - trained, 4),
            **peak_memory(self.device),
        }

    def _step(self, indices: list[int], rate: float) -> float:
        batch = self.data.batch(indices).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _validate(self) -> float | None:
        if not self.val_data.held:  # blank predictions alone would score all epochs the same
            return None
        found = predict_samples(self.model, self.val_data, self.val_task, batch=self.settings.batch, device=self.device)
        return self.val_task.validate(found)

    def _keep(self, record: dict[str, Any]) -> None:
        """Writes what an epoch gave. The last checkpoint comes first: it holds the history and, if the epoch is the
        best, the best weights too, so after a kill in between the other files are made from it."""
        self.history.append(record)
        facts = {"epoch": record["epoch"], "history": self.history}
        checkpoint.save(self.run / runs.LAST, self.model, facts, self.optimizer)
        if best_epoch(self.history) is record:
            self._save_best()
        self._write_epochs()

    def _save_best(self) -> None:
        facts = {"epoch": self.history[-1]["epoch"], "selected_by": selected_by(self.history)}
        checkpoint.save(self.run / runs.BEST, self.model, facts)

    def _write_epochs(self) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        checkpoint.write_atomic(self.run / runs.EPOCHS, lines.encode())


def make_optimizer(model: nn.Module, settings: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, not on gains, biases and gates.

    The fused form: with many small tensors the usual one is a sixth of a step on a CPU.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(settings: TrainConfig, step: int, steps: int) -> float:
    """Rate of a step (from 0): linear up to `lr` over the warm-up, then a cosine down to 0 after the last step."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def seed_everything(seed: int, epoch: int) -> None:
    """Sets torch's random numbers by (seed, epoch); epoch 0 is for the start weights."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The epoch with the highest validation score, the earliest of equals; the last one where some have no score."""
    if not history:
        return None
    if not _validated(history):
        return history[-1]
    key = _score_key(history[0])
    return max(history, key=lambda record: (record[key], -record["epoch"]))


def selected_by(history: list[dict[str, Any]]) -> str:
    """By what `best_epoch` chooses, in words."""
    if not _validated(history):
        return "last epoch: no validation sample with features"
    return f"{_score_key(history[0]).replace('_', ' ')}, highest"


def _validated(history: list[dict[str, Any]]) -> bool:
    """Whether every epoch has a score. Some have none where a run went on with a cache that had changed."""
    return all(record[_score_key(record)] is not None for record in history)


def _score_key(record: dict[str, Any]) -> str:
    return next(key for key in record if key.startswith("val_") and key != "val_seconds")


def _in_short(record: dict[str, Any]) -> str:
    key = _score_key(record)
    score = "" if record[key] is None else f", {key.replace('_', ' ')} {record[key]:.4f}"
    return f"loss {record['train_loss']:.4f}{score}"


def peak_memory(device: torch.device) -> dict[str, float]:
    """Largest memory of this process so far, MiB: resident, and allocated on the GPU where one is used."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)}
    if device.type == "cuda":
        found["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return found
