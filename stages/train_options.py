"""What the user asked a training for, and the settings that it comes to. No torch, so mistakes are said at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import manifest_of
from avpipe.pipeline.datasets import names as dataset_names
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.stages import distill, lavish
from avpipe.stages.config import MASK_TASKS, TrainConfig, check_task, defaults_for, from_dict, override
from avpipe.stages.effect import idle
from avpipe.stages.presets import Preset, load_preset, preset_names


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the user asked for; None means "not said".

    Attributes:
        dataset: name of the dataset; None: that of the cache.
        root: folder of the dataset.
        task: of a table of the user's own, where its columns allow several; None: that of its extraction.
        cache: folder of the cache; None: the dataset's usual one, or the newest.
        stage: `distill` or `segment`.
        method: distiller, or `lavish`.
        modality: `both`, `audio` or `visual`.
        run: folder of the run; None: a new one below `./runs`.
        resume: go on with the run in `run`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        residency: where features are kept: `disk`, `ram`, `gpu` or `auto`.
        checkpoint_seconds: seconds after the last checkpoint at which one is written within an epoch; 0: at every step.
        overrides: `key=value` settings.
        start: for stage `segment`: run whose distiller and decoder it starts from, or `none`; None: the newest that
            fits among the runs beside it.
        preset: settings to start from in place of the task's defaults, and the dataset where none is named.
    """

    dataset: str | None = None
    root: Path | None = None
    task: str | None = None
    cache: Path | None = None
    stage: str | None = None
    method: str | None = None
    modality: str | None = None
    run: Path | None = None
    resume: bool = False
    device: str = "auto"
    residency: str = "auto"
    checkpoint_seconds: float = 300.0
    overrides: tuple[str, ...] = ()
    start: str | None = None
    preset: Preset | None = None

    def named(self) -> dict[str, str]:
        """The settings that have options of their own, those that were given."""
        given = {"stage": self.stage, "method": self.method, "modality": self.modality}
        return {key: value for key, value in given.items() if value is not None}


def merged(options: TrainOptions, base: TrainConfig) -> TrainConfig:
    """`base`, the preset, the options and the `key=value` overrides, each checked: names, types and ranges.

    Raises:
        UsageError: unknown or impossible settings.
    """
    named = options.named()
    both = {pair.partition("=")[0] for pair in options.overrides} & set(named)
    if both:
        raise UsageError(f"{', '.join(sorted(both))} given twice: as an option and as key=value")
    config = override(from_dict(named, _preset(options, base)), options.overrides)
    if config.method not in distill.methods():
        raise unknown_name("method", config.method, distill.methods())
    lavish.check(config)
    return config


def settings(options: TrainOptions, task: str) -> TrainConfig:
    """The settings of a new run: the task's defaults and what `merged` puts over them.

    Says in a line which of the settings that were given change nothing.

    Raises:
        UsageError: unknown or impossible settings, or a head or stage that the task does not have.
    """
    config = merged(options, defaults_for(task))
    check_task(config, task)
    if config.stage == "segment":
        if task not in MASK_TASKS:
            raise UsageError(f"--stage segment is for data with masks, this is {task}: use --stage distill")
        if config.modality == "audio" and config.inject != "none":
            raise UsageError(
                f"inject={config.inject} changes the visual backbone, and modality=audio leaves it out: set inject=none"
            )
    elif options.start is not None:
        raise UsageError("--start is for --stage segment: a distill run starts from fresh weights")
    without = idle(config, task)
    given = dict.fromkeys(pair.partition("=")[0] for pair in options.overrides)
    if useless := [f"{key} (belongs to {without[key]})" for key in given if key in without]:
        progress.say(f"without effect here: {', '.join(useless)}")
    return config


def check_early(options: TrainOptions) -> None:
    """Checks of a new run what can be checked before any data are opened.

    Raises:
        UsageError: unknown or impossible settings, or a preset for another task.
    """
    merged(options, TrainConfig())
    if options.preset and options.dataset in dataset_names():
        check_preset(options.preset, options.dataset, str(manifest_of(options.dataset)["task"]))


def check_preset(preset: Preset, dataset: str, task: str) -> None:
    """Checks that a preset is for data of this task.

    Raises:
        UsageError: it is for another task; names those that fit.
    """
    if _same_data(preset, dataset):
        return
    try:
        meant = str(manifest_of(preset.dataset)["task"])
    except UsageError:  # a table of the user's own: what it holds is not known here
        return
    if meant != task:
        fitting = [name for name in preset_names() if manifest_of(load_preset(name).dataset)["task"] == task]
        instead = f"take --preset {' or '.join(fitting)}" if fitting else "train without --preset"
        raise UsageError(f"preset {preset.name} is for {preset.dataset} ({meant} data), {dataset} is {task}: {instead}")


def say_preset(preset: Preset, dataset: str) -> None:
    """One line about the preset, and about data that are not those that it names."""
    other = "" if _same_data(preset, dataset) else f" (it is for {preset.dataset}, taken for {dataset})"
    progress.say(f"preset: {preset.path}{other}")


def _same_data(preset: Preset, dataset: str) -> bool:
    """Whether a preset is for this dataset, for all its subsets, or does not say."""
    return not preset.dataset or f"{dataset}-".startswith(f"{preset.dataset}-")


def _preset(options: TrainOptions, base: TrainConfig) -> TrainConfig:
    """`base` with the settings of the preset, where there is one."""
    try:
        return from_dict(options.preset.settings, base) if options.preset else base
    except UsageError as error:
        raise UsageError(f"preset {options.preset and options.preset.path}: {error}") from error
