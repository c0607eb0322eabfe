"""Segmentation: a mask for the frame of every segment, decoded from patch tokens of several resolutions.

The papers use AVSBench's decoder on the backbone's four stages: maps of one width, the sound fused into each (TPAVI),
brought together coarse to fine. This one is ours, of that kind and small: see `docs/heads.md` for what differs.

Without visual features only learned positions are left beside the sound: a control that shows what can be had from
knowing where objects tend to be.

    pyramid   taps to maps, one for each resolution
    fusion    meta-tokens into the positions of a map
    decoder   coarse to fine, up to logits
    losses    of masks

Legend: B batch, T segments, S = B * T, N tokens, C channels, P grid positions, M all meta-tokens, d width.
"""

from avpipe.stages.heads.mask.decoder import MaskHead
from avpipe.stages.heads.mask.losses import mask_loss, to_mask_size

__all__ = ["MaskHead", "mask_loss", "to_mask_size"]
