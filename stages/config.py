"""Settings of a training run: one frozen dataclass, `key=value` overrides, YAML in the run folder."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from avpipe.pipeline.errors import UsageError, unknown_name

MODALITIES = ("audio", "visual")
CHOICES: dict[str, tuple[str, ...]] = {
    "stage": ("distill", "segment"),
    "modality": ("both", *MODALITIES),
    "shuffle": ("full", "block", "auto"),
    "select": ("val", "test"),
    "head": ("temporal", "linear", "cmbs", "han", "mask"),
    "supervision": ("full", "weak"),
    "branches": ("both", "keep", "adapt"),
    "adapt": ("attention", "bottleneck"),
    "gate": ("channel", "scalar"),
    "share": ("none", "stage"),
    "inject": ("rerun", "side", "none"),
    "checkpointing": ("off", "on"),
}
MASK_TASKS = ("segmentation", "semantic")
"""Tasks whose answer is a picture."""
HEADS = {
    "events": ("temporal", "linear", "cmbs"),
    "parsing": ("han",),
    "segmentation": ("mask",),
    "semantic": ("mask",),
}
"""Heads of each task, the usual one first."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is built and trained. `defaults_for` gives the values that suit a task.

    Attributes:
        method: distiller: `mettle` (LCD) or the control `linear`; or `lavish`: adapters inside both backbones, which
            reads stored frames and samples and no cached layer.
        modality: `both`, `audio` or `visual`.
        stage: `distill` or `segment`.
        seed: start of every random number: weights, shuffles, dropout.
        epochs: passes over the training samples.
        batch: samples a step.
        lr: highest learning rate, after the warm-up; cosine to 0 after it.
        weight_decay: AdamW's decay, for matrices only.
        warmup: share of all steps in which the learning rate rises from 0.
        clip_norm: largest norm of the gradient; a larger one is scaled down.
        meta_tokens: K, meta-tokens for each tap, modality and segment; with `lavish`, latents of each adapter.
        heads: H, heads of LCD's low-rank attention and of the temporal transformer; divides `rank` and `width`.
        rank: r, width of LCD's low-rank attention; with `lavish`, of each adapter's bottleneck.
        width: d, common width of all taps and of the head.
        branches: which of LCD's two mechanisms are there: `both`, `keep` (knowledge preservation) or `adapt` (task
            adaptation).
        adapt: what task adaptation is: `attention` of low rank, or a `bottleneck` on what is kept.
        gate: one value per `channel` before what is adapted, or a single `scalar`.
        share: `none`, or `stage`: taps of one stage share LCD's weights; each has meta-tokens of its own.
        layer_dropout: rate at which a tap is left out of the mean over layers in training.
        head: what decides: `temporal`, `linear` or `cmbs` (events), `han` (parsing), `mask` (segmentation, semantic).
        supervision: `full`, or `weak`: training sees labels of whole videos only (events).
        crossed: weight of the loss on pairs of one clip's pictures with another's sound, which are background where
            their events differ (weak supervision of events, both modalities); 0: no such pairs.
        smoothing: share by which visual labels of parsing are drawn towards one half; 0: not at all.
        inject: with stage `segment`, what meta-tokens do: `rerun` (they are injected into blocks of the visual
            backbone, which runs again from the first of them on), `side` (they adapt its cached outputs, nothing is
            run) or `none` (nothing but the decoder sees them: the control).
        inject_at: blocks that take them: `stages` (the first block of each stage but the first, or of each of four
            parts of the depth of a backbone without stages), `last:K`, or names joined by commas.
        checkpointing: with `on` the backbone's blocks keep nothing for the backward pass and are computed twice.
        taps: which of the cached layers are trained on: `all`, `last:K`, `stages`, or names joined by commas, see
            `taps.choose_taps`.
        layers: transformer layers over time (events).
        dropout: dropout rate in the head.
        dice: weight of the dice loss beside cross-entropy (masks, class maps).
        codec: storage codec of the taps to train on, such as `float32`; empty: float16 where the cache has it, else the
            only one that there is.
        shuffle: `full`, or `block`: a few units of the cache at a time, for network disks. `auto` is `block` where
            batches are read from a network disk, else `full`; a run keeps what it came to.
        block_units: units that a block shuffle mixes at once.
        select: split on which epochs are compared: `val`, or `test` as some published numbers have it; scores of such a
            run carry its mark, see `best`.
    """

    method: str = "mettle"
    modality: str = "both"
    stage: str = "distill"
    seed: int = 0
    epochs: int = 30
    batch: int = 8
    lr: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip_norm: float = 1.0
    meta_tokens: int = 4
    heads: int = 4
    rank: int = 64
    width: int = 256
    branches: str = "both"
    adapt: str = "attention"
    gate: str = "channel"
    share: str = "none"
    layer_dropout: float = 0.0
    head: str = "temporal"
    supervision: str = "full"
    crossed: float = 0.3
    smoothing: float = 0.1
    inject: str = "rerun"
    inject_at: str = "stages"
    checkpointing: str = "off"
    taps: str = "all"
    layers: int = 1
    dropout: float = 0.1
    dice: float = 1.0
    codec: str = ""
    shuffle: str = "full"
    block_units: int = 8
    select: str = "val"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are used, sorted."""
        return MODALITIES if self.modality == "both" else (self.modality,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self)


def defaults_for(task: str) -> TrainConfig:
    """Default settings of a task (`events`, `parsing`, `segmentation` or `semantic`).

    Masks and class maps are trained 30 epochs with batches of four, as AVSBench does for MS3; their decoder is narrow
    because its convolutions are the whole cost of a step, and its rate is that of small networks from scratch. It reads
    the ends of stages, whatever other layers the cache holds: one may be there only for a backbone to go on from.
    """
    if task in MASK_TASKS:
        return TrainConfig(batch=4, lr=1e-3, width=64, head="mask", taps="stages")
    return TrainConfig(head=HEADS[task][0]) if task in HEADS else TrainConfig()


def check_task(config: TrainConfig, task: str) -> None:
    """Checks that the settings suit a task.

    Raises:
        UsageError: a head of another task, or weak supervision of a task that has none.
    """
    heads = HEADS.get(task, ())
    if config.head not in heads:
        raise unknown_name(f"head of {task} data", config.head, heads)
    if config.supervision == "weak" and task != "events":
        raise UsageError(f"supervision=weak is for events data, this is {task}")


def from_dict(values: Mapping[str, Any], base: TrainConfig | None = None) -> TrainConfig:
    """Settings from plain values, each checked.

    Args:
        values: some or all settings.
        base: settings of the keys that `values` lacks; default: `TrainConfig()`.

    Raises:
        UsageError: unknown key (with the nearest name), wrong type, value out of range.
    """
    types_by_name = typing.get_type_hints(TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name("setting", key, known)
        checked[key] = _as_type(key, value, types_by_name[key])
    return _checked(replace(base or TrainConfig(), **checked))


def override(base: TrainConfig, pairs: Iterable[str]) -> TrainConfig:
    """`base` with `key=value` texts from the command line applied.

    Raises:
        UsageError: a text without "=", a key given twice, and what `from_dict` refuses.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"settings are given as key=value, for instance epochs=20; this is not: {pair!r}")
        if key in values:
            raise UsageError(f"setting {key!r} is given twice")
        values[key] = value
    return from_dict(values, base)


def _as_type(key: str, value: Any, wanted: type | types.UnionType) -> Any:
    """`value` as the setting's type; text is parsed."""
    if wanted is str and isinstance(value, str):
        return value
    if key == "layers" and isinstance(value, str) and _names_taps(value):
        raise UsageError(f"layers={value}: `layers` counts transformer layers; which taps to train on is taps={value}")
    try:
        if wanted is int and (isinstance(value, str) or type(value) is int):
            return int(value)
        if wanted is float and (isinstance(value, str) or type(value) in (int, float)):
            return float(value)
    except ValueError:
        pass
    kind = {"int": "a whole number", "float": "a number"}.get(getattr(wanted, "__name__", ""), "text")
    raise UsageError(f"setting {key!r} must be {kind}, not {value!r}")


def _checked(config: TrainConfig) -> TrainConfig:
    """Refuses values that cannot work, each with its name."""
    for key, known in CHOICES.items():
        if getattr(config, key) not in known:
            raise unknown_name(key, getattr(config, key), known)
    _check_taps(config.taps)
    for key in ("epochs", "batch", "meta_tokens", "heads", "rank", "width", "layers", "block_units"):
        _require(getattr(config, key) >= 1, key, config, "at least 1")
    _require(config.seed >= 0, "seed", config, "0 or more")
    for key in ("lr", "clip_norm"):
        _require(0 < getattr(config, key) < float("inf"), key, config, "above 0")
    for key in ("weight_decay", "dice", "crossed"):
        _require(0 <= getattr(config, key) < float("inf"), key, config, "0 or more")
    for key in ("warmup", "dropout", "layer_dropout", "smoothing"):
        _require(0 <= getattr(config, key) < 1, key, config, "at least 0 and below 1")
    for key in ("rank", "width"):
        _require(getattr(config, key) % config.heads == 0, key, config, f"a multiple of heads={config.heads}")
    return config


def _names_taps(value: str) -> bool:
    """Whether a text looks like a choice of taps."""
    return value in ("all", "stages") or value.startswith("last:") or "blocks." in value


def _check_taps(taps: str) -> None:
    """Refuses what can be no choice of taps, whatever the cache holds."""
    kind, colon, count = taps.partition(":")
    if not taps.strip(", "):
        raise UsageError("setting taps is empty: all, stages, last:K, or names of taps joined by commas")
    if colon and (kind != "last" or not count.isdecimal() or int(count) < 1):
        raise UsageError(f"setting taps={taps}: last:K needs a positive number, such as last:4")


def _require(holds: bool, key: str, config: TrainConfig, what: str) -> None:
    if not holds:
        raise UsageError(f"setting {key}={getattr(config, key)} must be {what}")
