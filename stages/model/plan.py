"""From settings and a cache to what a run's model is built for: which taps, and where meta-tokens are injected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError
from avpipe.stages.adding import adding_command
from avpipe.stages.backbones.reopen import facts_of_cache
from avpipe.stages.config import MASK_TASKS, TrainConfig
from avpipe.stages.distill import END_TO_END
from avpipe.stages.model.spec import Grid, ModelSpec, describe, shapes_of, tap_depth
from avpipe.stages.places import find_places
from avpipe.stages.taps import bare, choose_taps, codec_of, taps_of

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache


def model_spec(
    cache: Cache,
    config: TrainConfig,
    task: str,
    classes: int,
    mask_size: Grid | None = None,
    *,
    name: str = "",
    root: str | Path = "",
) -> ModelSpec:
    """What a run's model is built for.

    Args:
        cache: holds the features.
        config: the settings.
        task: see `ModelSpec`.
        classes: number of classes.
        mask_size: height and width of the masks (tasks with masks).
        name, root: dataset and its folder, for the command that adds what the cache lacks; "": those of the cache.

    Raises:
        UsageError: as `choose_taps` and `describe`; or the cache lacks a layer that the injections need (with the
            command that adds it), or the decoder does not read one.
    """
    if config.method in END_TO_END:  # reads no cached layer: its taps are the backbones' own
        from avpipe.stages.lavish.wanted import describe as describe_lavish

        return describe_lavish(cache, config, task, classes, mask_size)
    taps = taps_for(cache, config, task)
    spec = describe(cache, shapes_of(cache, taps), task, classes, mask_size)
    if config.stage != "segment" or config.inject == "none":
        return spec
    facts = facts_of_cache(cache.specs["visual"])
    places, needs = find_places(facts, config.inject_at), _Needs(cache, taps["visual"], name, root)
    if config.inject == "side":
        if not places.resume:
            raise UsageError(f"inject=side: no cached layer lies before {next(iter(places.injected))}: leave it out")
        needs.decoded(list(places.before.values()), "--layers", ",".join(places.before.values()))
        return replace(spec, injected=places.injected)
    purpose = ("--for", "segment", "--inject-at", config.inject_at)
    blocks = list(facts.taps)
    last = blocks.index(list(places.injected)[-1])
    if blocks.index(bare(taps["visual"][-1])) < last:
        needs.decoded([blocks[-1]], *purpose)
    return replace(spec, injected=places.injected, resume=needs.held(places.resume, *purpose))


def taps_for(cache: Cache, config: TrainConfig, task: str) -> dict[str, tuple[str, ...]]:
    """Taps that distiller and head work on, by modality: those of `choose_taps`, of masks the top one of sound."""
    taps = choose_taps(cache, config.modalities, config.codec, config.taps)
    if task in MASK_TASKS and "audio" in taps:
        taps["audio"] = taps["audio"][-1:]  # of sound only the top layer is distilled
    return taps


def injection_in_words(spec: ModelSpec, config: TrainConfig) -> str:
    """Where meta-tokens go in and what runs again, in a line."""
    blocks = ", ".join(spec.injected)
    what = "mean tokens of the top layers (method linear)" if config.method == "linear" else "meta-tokens"
    if config.inject == "side":
        return f"{what} adapt the cached layers before {blocks}; nothing runs again"
    where = f"cached {spec.resume}" if spec.resume else "the stored frames"
    return f"{what} go into {blocks}; the visual backbone runs again, from {where} on"


class _Needs:
    """Checks for visual layers that injections need, in the codec that is trained on.

    Args:
        cache: the cache.
        taps: visual taps that the decoder reads, in order of depth.
        name, root: as in `model_spec`.
    """

    def __init__(self, cache: Cache, taps: tuple[str, ...], name: str, root: str | Path) -> None:
        self.cache, self.taps, self.name, self.root = cache, taps, name, root
        self.codec = codec_of(cache.arrays[f"visual/{taps[-1]}"])
        self.names = {bare(tap): tap for tap in taps_of(cache, "visual", self.codec)}

    def held(self, block: str, *options: str) -> str:
        """The name of a tap in the cache; "" for "".

        Raises:
            UsageError: it is not there; `options` of `avpipe extract` add it.
        """
        if not block:
            return ""
        if block not in self.names:
            command = adding_command(self.cache, "visual", options, name=self.name, root=self.root, codec=self.codec)
            raise UsageError(
                f"cache {self.cache.path} lacks visual/{block}, which the injections need: add it with `{command}`"
            )
        return self.names[block]

    def decoded(self, blocks: list[str], *options: str) -> None:
        """Checks that the decoder reads the outputs of these blocks.

        Raises:
            UsageError: one is not in the cache, or is not among the taps that were chosen.
        """
        lacking = [tap for block in blocks if (tap := self.held(block, *options)) not in self.taps]
        if lacking:
            every = ",".join(sorted((*map(bare, self.taps), *map(bare, lacking)), key=tap_depth))
            raise UsageError(
                f"injections would not reach the decoder unless it reads visual/{lacking[0]}, too: add taps={every}"
            )
