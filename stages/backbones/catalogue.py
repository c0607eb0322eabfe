"""What backbones there are, and what their taps hold: from facts alone, without torch and without weights."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import FAMILIES, demo_weights, facts_of, model_names, select_taps
from avpipe.stages.backbones.contract import MODALITIES, BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.statistics import statistics_spec

NO_WEIGHTS = "random:0"
"""Facts are asked for as if weights were drawn: every family knows its models so."""
NEAR = 3
"""Names that are offered where a pattern finds none."""


@dataclass(frozen=True, slots=True)
class Model:
    """A backbone that can be chosen.

    Attributes:
        name: what `--visual` or `--audio` takes.
        family: implementation that loads it.
        modalities: what it can be fed, with segments of one second.
        stages: blocks of each stage; one number for a model without stages.
        widths: channels of each stage.
        image_size: height and width of its usual frames in pixels; None for a model of sound alone.
        weights: names of pretrained weights, the usual first; empty where a file has to be given.
    """

    name: str
    family: str
    modalities: tuple[str, ...]
    stages: tuple[int, ...]
    widths: tuple[int, ...]
    image_size: tuple[int, int] | None
    weights: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """Number of its blocks; each is a tap."""
        return sum(self.stages)


@dataclass(frozen=True, slots=True)
class Tap:
    """One tap of a backbone, as a cache stores it.

    Attributes:
        name: what `--layers` takes.
        stage: number of its stage, from 0.
        tokens: N, prefix tokens included.
        channels: C.
        grid: rows and columns of the tokens behind the prefix tokens.
        bytes: of the tokens of one segment (of one frame).
        statistics_bytes: of the mean and deviation of each token, in an array beside them.
        stage_end: whether it is the last of its stage.
        chosen: whether the layers that were asked for have it.
    """

    name: str
    stage: int
    tokens: int
    channels: int
    grid: tuple[int, int]
    bytes: int
    statistics_bytes: int
    stage_end: bool
    chosen: bool


def find_models(pattern: str = "", modality: str | None = None, family: str | None = None) -> list[Model]:
    """Models that can be chosen, sorted by name.

    Args:
        pattern: part of the name, or a glob such as `swinv2*192`; capitals or not.
        modality: `visual` or `audio`: only those for it.
        family: only those that this implementation loads.

    Raises:
        UsageError: unknown modality or family.
    """
    if modality is not None and modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    if family is not None and family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    glob = (pattern if set(pattern) & set("*?[") else f"*{pattern}*").lower()
    names = sorted((name, key) for key, one in FAMILIES.items() if family in (None, key) for name in one.names())
    found = [_model(name, key) for name, key in names if fnmatchcase(name.lower(), glob)]
    return [one for one in found if modality is None or modality in one.modalities]


def near_names(pattern: str) -> list[str]:
    """Names that begin most like a pattern which finds none, the nearest first; at most `NEAR`."""
    wanted = pattern.strip("*?").lower()
    beginnings = {name[: len(wanted)]: name for name in reversed(model_names())}
    return [beginnings[near] for near in get_close_matches(wanted, beginnings, n=NEAR, cutoff=0.5)]


def facts_for(choice: BackboneChoice, timeline: Timeline, any_modality: bool = False) -> BackboneFacts:
    """Facts of a model as if its weights were drawn.

    Args:
        choice: model and options; its weights do not matter.
        timeline: how clips are cut.
        any_modality: whether a model without the chosen modality is taken with the one that it has.

    Raises:
        UsageError: no such model (the nearest name is offered), or options that do not suit it.
    """
    has = list(_facts(choice.model, Timeline()))  # a segment of another length may be refused, which is said below
    modality = choice.modality if choice.modality in has or not has or not any_modality else has[0]
    if has and modality not in has:
        raise UsageError(f"{choice.model} has no {modality} form: give --modality {has[0]}, or leave that out")
    options = (choice.image_size, choice.front_end, choice.window, choice.precision)
    return facts_of(BackboneChoice(modality, choice.model, NO_WEIGHTS, *options), timeline)


def taps_of(facts: BackboneFacts, dtype: str, layers: str) -> list[Tap]:
    """Every tap of a backbone, in order of depth.

    Args:
        facts: of the backbone.
        dtype: storage type of the tokens.
        layers: `--layers`: which are chosen.

    Raises:
        UsageError: unknown layers.
    """
    chosen = select_taps(layers, list(facts.taps), facts.stage_ends)
    grids, ends = facts.grids, facts.stage_ends
    found = []
    for name, (tokens, channels) in facts.taps.items():
        array = ArraySpec(f"{facts.modality}/{name}", (tokens, channels), dtype)
        size, beside = array.row_bytes, statistics_spec(array).row_bytes
        place = stage_index(name), tokens, channels, grids[name]
        found.append(Tap(name, *place, size, beside, name in ends, name in chosen))
    return found


def _model(name: str, family: str) -> Model:
    """What is said of one model."""
    by_modality = _facts(name, Timeline())
    facts = next(iter(by_modality.values()))
    shipped = (demo_weights.KEYWORD,) if name == demo_weights.MODEL else ()
    return Model(
        name,
        family,
        tuple(by_modality),
        tuple(stage.blocks for stage in facts.stages),
        tuple(stage.width for stage in facts.stages),
        facts.input_size if facts.modality == "visual" else None,
        (*FAMILIES[family].tags(name), *shipped),
    )


def _facts(model: str, timeline: Timeline) -> dict[str, BackboneFacts]:
    """Facts without options, of each modality that a model has."""
    found = {}
    for modality in MODALITIES:
        try:
            found[modality] = facts_of(BackboneChoice(modality, model, NO_WEIGHTS), timeline)
        except UsageError:
            continue
    return found
