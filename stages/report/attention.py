"""Where a method's meta-tokens look, as small maps on the grid of patches.

Legend: T segments, L taps, M mechanisms, N tokens, G positions of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from avpipe.stages.distill import Looks
from avpipe.stages.features import FeatureBatch
from avpipe.stages.report.media import encoded


def maps(model: nn.Module, batch: FeatureBatch, backbones: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Attention over one sample's tokens, by modality.

    Args:
        model: a trained model; its distiller may have `looks`.
        batch: features of one sample, on the model's device.
        backbones: field `backbone` of the spec of every modality.

    Returns:
        by modality `grid`, `taps`, `mechanisms`, `maps` (base64 of uint8 `[T, L, M, G]`, each map scaled to a largest
        value of 255) and `prefix_share` (`[T][L][M]`, share of attention on class and register tokens); None for a
        method that does not look anywhere.
    """
    looks = getattr(getattr(model, "distiller", None), "looks", None)
    if looks is None:
        return None
    with torch.no_grad():
        found: dict[str, Looks] = looks(batch.tokens)
    shown = {modality: _maps(one, backbones[modality]) for modality, one in found.items() if modality in backbones}
    return {modality: value for modality, value in shown.items() if value is not None} or None


def _maps(looks: Looks, backbone: Mapping[str, Any]) -> dict[str, Any] | None:
    """One modality; None where its tokens are on no grid."""
    (rows, columns), prefix = backbone["grid"], int(backbone["prefix_tokens"])
    weights = torch.stack([one[0] for one in looks.weights.values()], dim=1).float().cpu().numpy()  # T L M N
    if weights.shape[-1] != prefix + rows * columns:
        return None
    on_grid = weights[..., prefix:]
    largest = np.maximum(on_grid.max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return {
        "grid": [rows, columns],
        "taps": list(looks.weights),
        "mechanisms": [{"key": key, "label": label} for key, label in looks.mechanisms],
        "maps": encoded((on_grid / largest * 255).round().astype(np.uint8).tobytes()),
        "prefix_share": weights[..., :prefix].sum(axis=-1).round(4).tolist(),
    }
