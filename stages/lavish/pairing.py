"""Which blocks of two backbones of unequal depth stand side by side.

LAVISH has one network for both modalities, so its blocks pair by themselves. For two, DG-SCT pairs block with block
within a stage, and the six blocks of HTS-AT's third stage with blocks 2, 5, 8, 11, 14 and 17 of Swin's. That is the
rule here, for any depths (ours): of n and m blocks, n the larger, the j-th of m goes with block `(j + 1) n // m - 1` of
n. Where one backbone has stages and the other does not, or not as many, the whole depth is one stage. What DG-SCT
leaves bare is adapted too: a block without a partner meets the other modality's tokens as its last block left them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avpipe.stages.backbones.contract import stage_index

Step = dict[str, str]
"""Blocks that run side by side, by modality: two, or one."""
Widths = Mapping[str, Mapping[str, int]]
"""Channels of the tokens in each block, by modality and block, in order of depth."""


def lockstep(first: tuple[str, Sequence[str]], second: tuple[str, Sequence[str]]) -> tuple[Step, ...]:
    """The order in which the blocks of two backbones run.

    Args:
        first, second: a modality, and the names of its backbone's blocks in order of depth.

    Returns:
        steps in which every block is once, each backbone's in their order.
    """
    stages = [_by_stage(blocks) for _, blocks in (first, second)]
    if len(stages[0]) != len(stages[1]):
        stages = [[list(blocks)] for _, blocks in (first, second)]
    steps = []
    for one, other in zip(*stages, strict=True):
        count = max(len(one), len(other))
        places = [(first[0], _places(one, count)), (second[0], _places(other, count))]
        steps += [{m: blocks[place] for m, blocks in places if place in blocks} for place in range(count)]
    return tuple(steps)


def met_widths(steps: Sequence[Step], widths: Widths) -> dict[str, dict[str, int]]:
    """Channels of the tokens of the other modality that each block meets, by modality and block."""
    latest = {modality: next(iter(blocks.values())) for modality, blocks in widths.items()}  # embedded tokens
    found: dict[str, dict[str, int]] = {modality: {} for modality in widths}
    for step in steps:
        latest |= {modality: widths[modality][block] for modality, block in step.items()}
        for modality, block in step.items():
            found[modality][block] = latest[other_of(modality, latest)]
    return found


def other_of(modality: str, both: Mapping[str, object]) -> str:
    """The other one of two modalities."""
    return next(name for name in both if name != modality)


def _by_stage(blocks: Sequence[str]) -> list[list[str]]:
    stages: dict[int, list[str]] = {}
    for block in blocks:
        stages.setdefault(stage_index(block), []).append(block)
    return list(stages.values())


def _places(blocks: Sequence[str], steps: int) -> dict[int, str]:
    """Blocks by the step, out of `steps`, in which they run."""
    return {(j + 1) * steps // len(blocks) - 1: block for j, block in enumerate(blocks)}
