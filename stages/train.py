"""Stage two: trains a distiller and a head on cached features; of stage `segment` also injections into a backbone.

    run = train(TrainOptions(dataset="ave", overrides=("epochs=20",)))

Every random number of an epoch comes from (seed, epoch), and a checkpoint holds how far they were used, so a run that
was killed goes on at the step after its last checkpoint exactly as if nothing had happened (bit for bit on a CPU with
the same number of threads). Where features are kept, and how many threads read them, changes no bit of it either.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.best import TEST_SELECTED
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import END_TO_END
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.lacking import Lacking
from avpipe.stages.model import (
    MASK_TASKS,
    ModelSpec,
    Reading,
    injection_in_words,
    model_spec,
    open_trunks,
    reading,
    taps_for,
)
from avpipe.stages.runs import RunConfig
from avpipe.stages.seen import write_samples
from avpipe.stages.start import adopt, find_start
from avpipe.stages.train_inputs import (
    Inputs,
    choose_device,
    find_inputs,
    labelled,
    learnable,
    mask_size_of,
    refuse_other_classes,
    say_missing,
    say_taps,
)
from avpipe.stages.train_loop import Trainer
from avpipe.stages.train_options import TrainOptions, check_preset, merged, say_preset, settings

if TYPE_CHECKING:
    import torch

    from avpipe.pipeline.cache import Cache
    from avpipe.stages.backbones.trunk import Trunk

__all__ = ["TrainOptions", "settings", "train"]


def train(options: TrainOptions) -> Path:
    """Trains, or goes on with, a run.

    Returns:
        the run folder.

    Raises:
        UsageError: the request cannot be met; says what to do.
        CacheMismatch: a run is resumed on other features, or within an epoch on samples in another order.
    """
    device = choose_device(options.device)
    return _resume(options, device) if options.resume else _start(options, device)


def _start(options: TrainOptions, device: torch.device) -> Path:
    """A new run."""
    if options.run is not None:
        runs.refuse_taken(options.run)  # before minutes are spent on reading
    inputs, config = _plan(options)
    dataset, cache = inputs.dataset, inputs.cache
    start = _find_start(options, config, inputs)
    _say_reading(cache, config)
    trunks = open_trunks(cache, config.model, config.train, str(device))  # first: weights may be gone
    store = _store(inputs, config.model, config.train, options, device)
    config = replace(config, train=replace(config.train, shuffle=_resolved_shuffle(config.train.shuffle, cache, store)))
    train_data = ClipFeatures(store, learnable(dataset), labelled_only=True)
    if not train_data.samples:
        raise UsageError(f"{dataset.name} at {dataset.root} has no labelled training samples")
    if not train_data.held:
        raise _lacking(inputs, config, train_data).error()
    run = runs.new_folder(options.run, f"{dataset.name}-{config.train.stage}-{config.train.method}")
    if start is not None:
        config = replace(config, start=adopt(start, run))
    write_samples(run, dataset)
    runs.write_start(run, config, runs.environment_of(cache, device, dataset, config.train.modalities))
    progress.say(f"run: {run}")
    _fit(run, config, inputs, train_data, trunks, options, device)
    return run


def _plan(options: TrainOptions) -> tuple[Inputs, RunConfig]:
    """What a new run is on, and its settings, as far as they follow from what was asked for."""
    usual = options.preset.dataset if options.preset else ""
    inputs = find_inputs(options.dataset or usual or None, options.root, options.cache, options.task)
    dataset, cache = inputs.dataset, inputs.cache
    if options.preset:
        check_preset(options.preset, dataset.name, dataset.task)
        say_preset(options.preset, dataset.name)
    config = settings(options, dataset.task)
    classes = len(dataset.classes)
    mask_size = mask_size_of(dataset) if dataset.task in MASK_TASKS else None
    if config.method not in END_TO_END:
        _refuse_absent(inputs, config)
    spec = model_spec(cache, config, dataset.task, classes, mask_size, name=dataset.name, root=dataset.root)
    return inputs, RunConfig(
        dataset.name,
        str(dataset.root.resolve()),
        str(Path(cache.path).resolve()),
        dataset.classes,
        config,
        spec,
        dict(dataset.options),
        options.preset.name if options.preset else "",
    )


def _refuse_absent(inputs: Inputs, config: TrainConfig) -> None:
    """Refuses a cache that has nothing of the training clips in a modality, before it is asked for single layers."""
    dataset, cache = inputs.dataset, inputs.cache
    clips = {sample.clip for sample in learnable(dataset)}
    taps = taps_for(cache, config, dataset.task)
    if clips and not all(clips & cache.clips([f"{m}/{names[-1]}"]).keys() for m, names in taps.items()):
        raise Lacking(cache, Reading(taps), clips, dataset.name, dataset.root).error()


def _find_start(options: TrainOptions, config: RunConfig, inputs: Inputs) -> Path | None:
    """The run whose weights a new run of stage segment starts from."""
    if config.train.stage != "segment":
        return None
    beside = options.run.parent if options.run else Path("runs")
    return find_start(options.start, beside, config, inputs.dataset, inputs.cache)


def _say_reading(cache: Cache, config: RunConfig) -> None:
    """Which layers are trained on, and which backbones run."""
    say_taps(cache, config.model)
    if config.model.injected:
        progress.say(injection_in_words(config.model, config.train))
    if config.model.adapted:
        progress.say("both backbones run at every step, from stored frames and samples: no cached layer is read")


def _resume(options: TrainOptions, device: torch.device) -> Path:
    """Goes on with a run, with the settings that it was started with."""
    if options.run is None:
        raise UsageError("--resume needs --run DIR: the run to go on with")
    if options.start is not None:
        raise UsageError(f"run {options.run} goes on from its own checkpoint: leave out --start")
    run = options.run
    config = RunConfig.load(run)
    _refuse_changes(run, config, options)
    root, features = options.root or _if_there(config.root), options.cache or Path(config.cache)
    inputs = find_inputs(config.dataset, root, features, config.table_task)
    refuse_other_classes(run, config.classes, inputs.dataset)
    runs.refuse_other_features(run, inputs.cache, config.train.modalities)
    if inputs.cache.content_hash() != runs.recorded_environment(run)["content_hash"]:
        progress.say("the cache has changed since the run was started: it goes on, but not as it would have without")
    say_taps(inputs.cache, config.model)
    trunks = open_trunks(inputs.cache, config.model, config.train, str(device))
    store = _store(inputs, config.model, config.train, options, device)
    train_data = ClipFeatures(store, learnable(inputs.dataset), labelled_only=True)
    _fit(run, config, inputs, train_data, trunks, options, device)
    return run


def _refuse_changes(run: Path, config: RunConfig, options: TrainOptions) -> None:
    """A resumed run keeps its settings; saying other ones is a mistake worth stopping for."""
    wanted = merged(options, config.train).to_dict()
    for key, value in config.train.to_dict().items():
        if wanted[key] != value:
            raise UsageError(f"run {run} was started with {key}={value}, it cannot go on with {key}={wanted[key]}")
    if options.dataset is not None and not config.dataset.startswith(Path(options.dataset).name):
        raise UsageError(f"run {run} is on {config.dataset}, not on {options.dataset}")


def _if_there(folder: str) -> Path | None:
    return Path(folder) if Path(folder).is_dir() else None


def _store(
    inputs: Inputs, spec: ModelSpec, config: TrainConfig, options: TrainOptions, device: torch.device
) -> FeatureStore:
    clips = [sample.clip for split in ("train", config.select) for sample in inputs.dataset.split(split)]
    read = reading(spec, config)
    return FeatureStore(inputs.cache, read.taps, clips, residency=options.residency, device=device, media=read.media)


def _resolved_shuffle(wanted: str, cache: Cache, store: FeatureStore) -> str:
    """What `auto` comes to: `block` where batches are read from a network disk."""
    if wanted != "auto":
        return wanted
    slow = store.residency == "disk" and cache.access == "pread"
    progress.say(f"shuffle: {'block: batches are' if slow else 'full: batches are not'} read from a network disk")
    return "block" if slow else "full"


def _lacking(inputs: Inputs, config: RunConfig, data: ClipFeatures) -> Lacking:
    """What the cache lacks of the training clips."""
    clips = [sample.clip for sample in data.samples]
    dataset, read = inputs.dataset, reading(config.model, config.train)
    return Lacking(inputs.cache, read, clips, dataset.name, dataset.root)


def _fit(
    run: Path,
    config: RunConfig,
    inputs: Inputs,
    train_data: ClipFeatures,
    trunks: dict[str, Trunk],
    options: TrainOptions,
    device: torch.device,
) -> None:
    """Trains to the end."""
    select = config.train.select
    compared = ClipFeatures(train_data.store, labelled(inputs.dataset, select))
    say_missing("training", inputs.cache, train_data.samples, train_data.missing, "left out")
    if train_data.missing and (command := _lacking(inputs, config, train_data).commands_that_help()):
        progress.say(f"to train on them too, run {command}")
    consequence = "scored as nothing found" if compared.held else "no epoch is validated, the last one is kept"
    what = "validation" if select == "val" else select
    say_missing(what, inputs.cache, compared.samples, compared.missing, consequence)
    if not len(compared):
        lacking = "dense events" if inputs.dataset.task == "parsing" else "labels"
        progress.say(f"no sample of {select} has {lacking}: no epoch is validated, the last one is kept")
    if select == "test" and compared.held:
        progress.say(
            f"select=test: epochs are compared on the test split itself; scores are marked {TEST_SELECTED}, and no "
            "report puts them beside those of runs selected on validation"
        )
    sides = [(data, config.build_task(data.samples)) for data in (train_data, compared)]
    trainer = Trainer(
        run, config, sides[0], sides[1], device, trunks=trunks, checkpoint_seconds=options.checkpoint_seconds
    )
    try:
        with runs.locked(run):
            trainer.fit(resume=options.resume)
    except KeyboardInterrupt:
        there = (run / runs.LAST).is_file()
        where = "go on after the last checkpoint with" if there else "there is no checkpoint yet, so this starts over:"
        progress.say(f"interrupted: {where} avpipe train --run {run} --resume")
        raise
