"""Where a method's meta-tokens look, as small maps on the grid of patches.

Legend: T segments, L taps, M mechanisms, N tokens, G positions of a tap's grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from avpipe.pipeline.cache import Cache
from avpipe.stages.backbones.contract import grid_of
from avpipe.stages.distill import Looks
from avpipe.stages.features import FeatureBatch
from avpipe.stages.report.media import encoded
from avpipe.stages.report.sound_grid import over_segment


def maps(model: nn.Module, batch: FeatureBatch, backbones: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Attention over one sample's tokens, by modality.

    Args:
        model: a trained model; its distiller may have `looks`.
        batch: features of one sample, on the model's device.
        backbones: field `backbone` of the spec of every modality.

    Returns:
        by modality `taps` (those whose tokens lie on the grid), `grids` (rows and columns, by tap), `mechanisms`,
        `maps` (by tap, base64 of uint8 `[T, M, G]`, each map scaled to a largest value of 255), `prefix_share`
        (`[T][L][M]`, share of attention on class and register tokens) and, for a method with a gate, `gate` (by tap,
        its mean absolute value); None where there is nothing to show. Maps of sound lie over the segment's
        spectrogram, see `sound_grid`.
    """
    shown = {
        modality: _maps(modality, one, backbones[modality], _on_grid(one, backbones[modality]))
        for modality, one in _looks(model, batch).items()
        if _on_grid(one, backbones[modality])
    }
    return shown or None


def lacking(model: nn.Module, batch: FeatureBatch, backbones: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Notes on the layers that `maps` leaves out, for these shapes of tokens."""
    notes = []
    for modality, one in _looks(model, batch).items():
        on_grid = _on_grid(one, backbones[modality])
        if off := [tap for tap in one.weights if tap not in on_grid]:
            notes.append(
                f"No attention is shown of {modality} {', '.join(off)}: the tokens there do not lie on the grid that "
                "the backbone declares."
            )
    return notes


def backbones_of(cache: Cache) -> dict[str, dict[str, Any]]:
    """What each modality's spec says of its backbone."""
    return {modality: dict(spec.fields.get("backbone", {})) for modality, spec in cache.specs.items()}


def _looks(model: nn.Module, batch: FeatureBatch) -> dict[str, Looks]:
    """Where the distiller looks, by modality; empty for a method that does not look anywhere."""
    looks = getattr(getattr(model, "distiller", None), "looks", None)
    if looks is None:
        return {}
    with torch.no_grad():
        found: dict[str, Looks] = looks(batch.tokens, batch.statistics)
    return found


def _on_grid(looks: Looks, backbone: Mapping[str, Any]) -> tuple[str, ...]:
    """Taps with one token for each position of the backbone's grid, behind its prefix tokens."""
    prefix, found = int(backbone.get("prefix_tokens", 0)), []
    for tap, weights in looks.weights.items():
        rows, columns = grid_of(backbone, tap)
        if rows * columns and weights.shape[-1] == prefix + rows * columns:
            found.append(tap)
    return tuple(found)


def _maps(modality: str, looks: Looks, backbone: Mapping[str, Any], taps: Sequence[str]) -> dict[str, Any]:
    """Some taps of one modality."""
    prefix = int(backbone.get("prefix_tokens", 0))
    grids, drawn, shares = [], [], []
    for tap in taps:
        weights = looks.weights[tap][0].float().cpu().numpy()  # T M N
        shares.append(weights[..., :prefix].sum(axis=-1))
        map_of_tap = weights[..., prefix:].reshape(*weights.shape[:2], *grid_of(backbone, tap))
        if modality == "audio":
            map_of_tap = over_segment(map_of_tap, backbone)
        grids.append(list(map_of_tap.shape[2:]))
        largest = np.maximum(map_of_tap.max(axis=(2, 3), keepdims=True), np.finfo(np.float32).tiny)
        drawn.append(encoded((map_of_tap / largest * 255).round().astype(np.uint8).tobytes()))
    gates = {tap: float(f"{looks.gates[tap]:.4g}") for tap in taps if tap in looks.gates}
    return {
        "taps": list(taps),
        "grids": grids,
        "mechanisms": [{"key": key, "label": label} for key, label in looks.mechanisms],
        "maps": drawn,
        "prefix_share": np.stack(shares, axis=1).round(4).tolist(),
        **({"gate": gates} if gates else {}),
    }
