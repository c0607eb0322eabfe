"""`--method lavish`: adapters inside both frozen backbones, trained end to end from stored frames and samples.

What a user would do without a cache, and so the control of what a cache buys. After LAVISH (CVPR 2023);
`docs/lavish.md` says what is published and what is ours. It is no distiller: the model computes its tokens itself, with
gradients, at every step, and hands those of the last blocks to the control `linear` and the usual heads.

adapter.py   one adapter: latents, cross-modal attention, bottleneck
pairing.py   which blocks of two backbones of unequal depth stand side by side
backbones.py both backbones in lockstep, with an adapter beside each half of every block
wanted.py    what a lavish run is built for, from what the cache says of its backbones
"""

from __future__ import annotations

from avpipe.pipeline.errors import UsageError
from avpipe.stages.config import TrainConfig

METHOD = "lavish"


def check(config: TrainConfig) -> None:
    """Checks settings that only concern this method.

    Raises:
        UsageError: it is chosen with one modality, or for the stage of Meta-Token Injection.
    """
    if config.method != METHOD:
        return
    if config.modality != "both":
        raise UsageError(
            f"method lavish adapts two backbones to each other, --modality {config.modality} leaves one: leave it out, "
            f"or take --method linear for {config.modality} alone"
        )
    if config.stage != "distill":
        raise UsageError(
            f"method lavish runs its backbones from stored frames and samples, it has no --stage {config.stage}: leave "
            "the stage out, or take --method mettle"
        )
