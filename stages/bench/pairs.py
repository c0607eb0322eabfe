"""Backbones and rows that `bench train` knows. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.stages.backbones import BackboneChoice

WEIGHTS = "random:0"
"""Drawn so that every block changes its input; real weights would cost the same."""
CLASSES = 29
"""Classes of AVE, background included."""
MASK_SIZE = (224, 224)
"""Height and width of AVSBench's masks, pixels."""
SETTINGS = ("meta_tokens=4", "heads=8", "rank=64", "branches=both")
"""K, H and r, of every row."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two backbones.

    Attributes:
        name: what the command line calls them.
        visual, audio: with random weights.
    """

    name: str
    visual: BackboneChoice
    audio: BackboneChoice


def _pair(name: str, visual: str, audio: str, front_end: str | None = None) -> Pair:
    sound = BackboneChoice("audio", audio, WEIGHTS, front_end=front_end)
    return Pair(name, BackboneChoice("visual", visual, WEIGHTS), sound)


PAIRS = {
    pair.name: pair
    for pair in (
        _pair("vit_base", "vit_base_patch16_224", "vit_base_patch16_224", "lavish"),
        _pair("swinv2_htsat", "swinv2_large_window12_192", "htsat"),
        _pair("demo", "test_vit", "test_vit"),
    )
}
"""`vit_base` is shown LAVISH's picture of sound, of the size of its frames: one network for both, as there."""


def pair_of(name: str) -> Pair:
    """The backbones of a name in `PAIRS`, or of `VISUAL+AUDIO`.

    Raises:
        UsageError: it is neither.
    """
    if name in PAIRS:
        return PAIRS[name]
    visual, plus, audio = name.partition("+")
    if not plus or not visual or not audio:
        raise unknown_name("pair", name, PAIRS, listing=f"{', '.join(PAIRS)}, or two models as VISUAL+AUDIO")
    return _pair(name, visual, audio)


@dataclass(frozen=True, slots=True)
class RowKind:
    """One way to train.

    Attributes:
        task: `events` or `segmentation`.
        settings: `key=value`, over the task's defaults and `SETTINGS`; `{quarter}` is a quarter of the visual blocks.
        batches: sizes of batches where none are asked for.
        about: one line for people.
    """

    task: str
    settings: tuple[str, ...]
    batches: tuple[int, ...]
    about: str


_SEGMENT = ("stage=segment", "taps=stages")
_LAST_QUARTER = ("inject=rerun", "inject_at=last:{quarter}")
ROWS = {
    "cached": RowKind("events", ("method=mettle",), (1, 8), "LCD on cached tokens"),
    "rerun": RowKind("events", ("method=mettle",), (1, 8), "the same LCD, both frozen backbones run at every step"),
    "lavish": RowKind("events", ("method=lavish",), (1, 2), "adapters inside both backbones, trained end to end"),
    "mti_resumed": RowKind(
        "segmentation",
        (*_SEGMENT, *_LAST_QUARTER),
        (1,),
        "meta-tokens injected into the last quarter of the visual blocks, which run from cached tokens on",
    ),
    "mti_full": RowKind(
        "segmentation", (*_SEGMENT, *_LAST_QUARTER), (1,), "the same, the visual backbone run from the frames on"
    ),
    "mti_side": RowKind(
        "segmentation", (*_SEGMENT, "inject=side", "inject_at=stages"), (1,), "meta-tokens adapt cached stage ends"
    ),
    "decoder": RowKind("segmentation", (*_SEGMENT, "inject=none"), (1,), "the decoder on cached stage ends"),
}
"""Every row by name, in the order in which they run."""
COMPARED = {
    "cached": ("rerun", "lavish"),
    "mti_resumed": ("mti_full",),
    "mti_side": ("mti_full",),
    "decoder": ("mti_full",),
}
"""With which rows of the same batch a row is compared."""


def rows_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The rows of these names, all where there are none, in the order of `ROWS`.

    Raises:
        UsageError: an unknown name.
    """
    for name in names:
        if name not in ROWS:
            raise unknown_name("row", name, ROWS)
    return tuple(name for name in ROWS if not names or name in names)


def settings_of(row: str, visual_blocks: int) -> tuple[str, ...]:
    """The `key=value` settings of a row, for a visual backbone of so many blocks.

    Raises:
        UsageError: the backbone has fewer than four blocks, which have no last quarter.
    """
    if visual_blocks < 4:
        raise UsageError(f"a visual backbone of {visual_blocks} blocks has no last quarter: take one of 4 or more")
    quarter = visual_blocks - 3 * visual_blocks // 4
    return SETTINGS + tuple(setting.format(quarter=quarter) for setting in ROWS[row].settings)
