"""One row, in this process: the very model, optimizer, batches and step of `avpipe train`, with a clock and a scale."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from avpipe.pipeline.cache import Cache, open_cache
from avpipe.stages.backbones.devices import device_name, torch_device
from avpipe.stages.backbones.reopen import facts_of_cache, open_trunk
from avpipe.stages.bench.material import CACHE, dataset_of
from avpipe.stages.bench.memory import Watch
from avpipe.stages.bench.pairs import MASK_SIZE, ROWS, settings_of
from avpipe.stages.bench.rerun import Rerun
from avpipe.stages.config import TrainConfig, defaults_for, override
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.loader import BatchReader
from avpipe.stages.model import ModelSpec, Reading, build_model, model_spec, open_trunks, reading
from avpipe.stages.optimizer import make_optimizer, seed_everything, take_step
from avpipe.stages.tasks import Task, build_task

LIBRARIES = {"timm": "avpipe.stages.backbones.timm_trunk", "htsat": "avpipe.stages.backbones.htsat_trunk"}
"""Modules that import what a family needs: imported before memory is measured, whatever the row."""
WARM_UP = {"cpu": 1, "cuda": 3}
"""Steps before the first that counts."""


@dataclass(frozen=True, slots=True)
class RowOrder:
    """What one process measures.

    Attributes:
        folder: holds the material.
        row: name in `ROWS`.
        batch: samples a step.
        clips, segments: of the material.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        residency: where features are kept: `disk`, `ram` or `gpu`.
        steps: steps that count, at least; whole epochs are run.
        seconds: time that they take, at least.
        threads: threads of torch; 0: its default.
    """

    folder: str
    row: str
    batch: int
    clips: int
    segments: int
    device: str
    residency: str
    steps: int
    seconds: float
    threads: int


@dataclass(slots=True)
class _Clock:
    """Seconds of steps, by the clock and of the processor, of their forward passes and of whole epochs."""

    device: torch.device
    steps: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    forwards: list[float] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    marks: list[Any] = field(default_factory=list)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def mark(self, *_: object) -> None:
        """Notes where the model's forward pass begins or ends, without waiting for a GPU."""
        if self.device.type == "cuda":
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self.device))
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def step(self, begun: float, processor_begun: float) -> None:
        """A step is done that began at these readings of `now` and `time.process_time`."""
        self.steps.append(self.now() - begun)
        self.processor.append(time.process_time() - processor_begun)
        first, last = self.marks
        on_gpu = self.device.type == "cuda"
        self.forwards.append(first.elapsed_time(last) / 1000 if on_gpu else last - first)
        self.marks.clear()


def measure_row(order: RowOrder) -> dict[str, Any]:
    """Trains a row for a few steps.

    Returns:
        JSON-ready figures of the row; see `docs/bench-train.md`.
    """
    if order.threads:
        torch.set_num_threads(order.threads)
    device, cache = torch_device(order.device), open_cache(Path(order.folder) / CACHE)
    for modality in cache.specs:
        importlib.import_module(LIBRARIES[facts_of_cache(cache.specs[modality]).family])
    with Watch() as memory:
        found = _train(order, cache, device)
    peak, base = memory.peak, memory.base
    if device.type == "cuda":
        peak, base = torch.cuda.max_memory_allocated(device) / 2**20, 0.0
    return {
        **found,
        "peak_mib": round(peak, 1),
        "base_mib": round(base, 1),
        "peak_anon_mib": round(memory.peak_anon, 1),
        "base_anon_mib": round(memory.base_anon, 1),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
    }


def _train(order: RowOrder, cache: Cache, device: torch.device) -> dict[str, Any]:
    kind = ROWS[order.row]
    dataset = dataset_of(Path(order.folder), kind.task, order.clips, order.segments)
    settings = settings_of(order.row, len(facts_of_cache(cache.specs["visual"]).taps))
    config = override(defaults_for(kind.task), (*settings, f"batch={order.batch}"))
    spec = _spec(order.row, cache, config, kind.task, len(dataset.classes))
    read = _reading(order.row, spec, config)
    clips = [clip.id for clip in dataset.clips]
    store = FeatureStore(cache, read.taps, clips, residency=order.residency, device=device, media=read.media)
    data = ClipFeatures(store, dataset.samples)
    task = build_task(kind.task, data.samples, classes=len(dataset.classes), mask_size=spec.mask_size, config=config)
    seed_everything(config.seed, epoch=0)
    model = _model(order.row, cache, spec, config, device)
    clock = _Clock(device)
    _run(order, model, config, task, BatchReader(store, config.batch, device), data, clock)
    return {
        "step_s": median(clock.steps),
        "step_cpu_s": median(clock.processor),
        "forward_s": median(clock.forwards),
        "epoch_s": median(clock.epochs),
        "steps": len(clock.steps),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "settings": list(settings),
    }


def _spec(row: str, cache: Cache, config: TrainConfig, task: str, classes: int) -> ModelSpec:
    spec = model_spec(cache, config, task, classes, MASK_SIZE if task == "segmentation" else None)
    return replace(spec, resume="") if row == "mti_full" else spec


def _reading(row: str, spec: ModelSpec, config: TrainConfig) -> Reading:
    return Reading({}, tuple(spec.shapes)) if row == "rerun" else reading(spec, config)


def _model(row: str, cache: Cache, spec: ModelSpec, config: TrainConfig, device: torch.device) -> nn.Module:
    if row == "rerun":
        trunks = {modality: open_trunk(cache.specs[modality], device=str(device)) for modality in spec.shapes}
        return Rerun(build_model(spec, config), spec, trunks).to(device)
    return build_model(spec, config, open_trunks(cache, spec, config, str(device))).to(device)


def _run(
    order: RowOrder,
    model: nn.Module,
    config: TrainConfig,
    task: Task,
    reader: BatchReader,
    data: ClipFeatures,
    clock: _Clock,
) -> None:
    """Warms up, then runs whole epochs until there are enough steps."""
    optimizer = make_optimizer(model, config)
    model.train()

    def epoch(number: int) -> float:
        begun = clock.now()
        with reader.batches(data, list(data.batches(config.batch, seed=config.seed, epoch=number))) as batches:
            for batch in batches:
                start = clock.now(), time.process_time()
                take_step(model, optimizer, task, batch, rate=config.lr, clip_norm=config.clip_norm)
                clock.step(*start)
        return clock.now() - begun

    warm = [list(range(config.batch))] * WARM_UP[clock.device.type]
    with reader.batches(data, warm) as batches:
        for batch in batches:
            take_step(model, optimizer, task, batch, rate=config.lr, clip_norm=config.clip_norm)
    model.register_forward_pre_hook(clock.mark)
    model.register_forward_hook(clock.mark)
    while not clock.epochs or len(clock.steps) < order.steps or sum(clock.epochs) < order.seconds:
        clock.epochs.append(epoch(len(clock.epochs) + 1))
