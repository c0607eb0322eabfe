"""Where meta-tokens are injected: blocks of the visual backbone, and what has to be stored for that. No torch.

A block that takes them gets the output of the block before it (the first block: the embedded tokens) with what the
injection adds. The backbone runs again from the first such block on, from the cached output of the block before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.stages.backbones import BackboneFacts, select_taps
from avpipe.stages.config import MASK_TASKS

PURPOSES = ("segment",)
"""What `avpipe extract --for` knows."""


@dataclass(frozen=True, slots=True)
class Places:
    """Blocks that take meta-tokens.

    Attributes:
        injected: their names in order of depth, with the width C of their inputs.
        before: the block before each of them; "" before the first block of the backbone.
    """

    injected: dict[str, int]
    before: dict[str, str]

    @property
    def resume(self) -> str:
        """The block from whose output the backbone runs again; "" for the stored frames."""
        return next(iter(self.before.values()))


def find_places(facts: BackboneFacts, at: str) -> Places:
    """The blocks that `inject_at` means.

    Args:
        facts: of the visual backbone.
        at: `stages` (the first block of each stage but the first, or of each of four parts of the depth of a backbone
            without stages), `last:K`, `all`, or names joined by commas.

    Raises:
        UsageError: a name is unknown (the nearest is offered), or the backbone has no block that is meant.
    """
    shapes = facts.taps
    blocks = list(shapes)
    previous = dict(zip(blocks, ["", *blocks], strict=False))
    if at == "stages":
        ends = select_taps("stages", blocks, facts.stage_ends)
        chosen = [block for block in blocks if previous[block] in ends]
        if not chosen:
            raise UsageError(f"inject_at=stages: {facts.model} has {len(blocks)} block(s): name one, {blocks[0]}")
    else:
        chosen = list(select_taps(at, blocks, facts.stage_ends, option="inject_at"))
    widths = {block: shapes[previous[block] or block][1] for block in chosen}
    return Places(widths, {block: previous[block] for block in chosen})


def layers_for(
    purpose: str, facts: Mapping[str, BackboneFacts], task: str, inject_at: str = "stages"
) -> dict[str, str]:
    """The layers to store for a purpose, by modality, as `--layers` takes them.

    `segment` is for `avpipe train --stage segment` and the `--stage distill` before it: the decoder reads the ends of
    the visual stages, the top layers are distilled, and the backbone runs again from the block before `inject_at`.

    Args:
        purpose: one of `PURPOSES`.
        facts: of the backbones, one or both.
        task: of the data.
        inject_at: as for `find_places`.

    Raises:
        UsageError: an unknown purpose, data of another task, or as `find_places`.
    """
    if purpose not in PURPOSES:
        raise unknown_name("purpose of --for", purpose, PURPOSES)
    if task not in (*MASK_TASKS, "mixed"):
        raise UsageError(f"--for segment is for data with masks, this is {task}: choose layers with --layers")
    found = {}
    for modality, one in facts.items():
        found[modality] = ",".join(_for_decoder(one, inject_at)) if modality == "visual" else "last:1"
    return found


def _for_decoder(facts: BackboneFacts, inject_at: str) -> list[str]:
    """Stage ends and the block from which the backbone runs again, in order of depth."""
    wanted = {*select_taps("stages", list(facts.taps), facts.stage_ends), find_places(facts, inject_at).resume}
    return [block for block in facts.taps if block in wanted]
