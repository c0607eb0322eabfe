"""What a lavish run is built for, from what the cache says of its backbones; no tap need be cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones import select_taps
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts
from avpipe.stages.backbones.reopen import facts_of_cache
from avpipe.stages.config import MASK_TASKS, TrainConfig
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.model.spec import ModelSpec

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache


def describe(
    cache: Cache, config: TrainConfig, task: str, classes: int, mask_size: tuple[int, int] | None = None
) -> ModelSpec:
    """The model that fits the backbones of a cache, and a task: last blocks, and for masks the visual stage ends.

    Args:
        cache: holds frames and samples.
        config: settings.
        task, classes, mask_size: as `model.spec.describe`.

    Raises:
        UsageError: the cache has no backbone for both modalities, or one that adapters cannot stand in.
    """
    both = {modality: _backbone(cache, modality) for modality in config.modalities}
    last: dict[str, tuple[str, ...]] = {modality: (list(facts.taps)[-1],) for modality, facts in both.items()}
    adapted = {modality: {block: width for block, (_, width) in facts.taps.items()} for modality, facts in both.items()}
    masks = task in MASK_TASKS and mask_size is not None
    visual = both["visual"]
    if masks:
        last["visual"] = tuple(select_taps("stages", list(visual.taps), visual.stage_ends))
    shapes = {modality: {tap: both[modality].taps[tap] for tap in taps} for modality, taps in last.items()}
    if not masks or mask_size is None:
        return ModelSpec(task, classes, shapes, adapted=adapted)
    grids = {tap: visual.grids[tap] for tap in last["visual"]}
    return ModelSpec(task, classes, shapes, grids, visual.prefix_tokens, mask_size, adapted=adapted)


def _backbone(cache: Cache, modality: str) -> BackboneFacts:
    """What the cache says of the backbone of a modality."""
    spec = cache.specs.get(modality)
    if spec is None:
        raise UsageError(
            f"method lavish needs frames and sound, cache {cache.path} holds nothing of {modality}: run "
            f"`avpipe extract --dataset {cache.dataset.get('name', 'NAME')} --cache {cache.path}`"
        )
    facts = facts_of_cache(spec)
    if RAW_ARRAYS[modality] not in cache.arrays:
        raise UsageError(f"method lavish needs {RAW_ARRAYS[modality]}, which cache {cache.path} does not hold")
    if BackboneChoice.from_request(spec.request).window == "clip":
        raise UsageError(
            f"the audio backbone of cache {cache.path} hears several segments at once (--audio-window clip), adapters "
            "need each by itself: run `avpipe extract --audio-window segment` into another cache"
        )
    return facts
