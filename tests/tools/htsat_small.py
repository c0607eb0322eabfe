"""HTS-AT and its kin made small: a sixth of the width, two blocks a stage."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import ClapAudioConfig

from avpipe.stages.backbones import htsat, htsat_weights

SMALL: dict[str, Any] = {"patch_embeds_hidden_size": 16, "depths": [2, 2, 2, 2], "num_attention_heads": [2, 2, 4, 4]}
SMALL_TAPS = tuple(f"layers.{s}.blocks.{b}" for s in range(4) for b in range(2))


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as `monkeypatch` lasts, the family's models are that small."""
    monkeypatch.setattr(htsat_weights, "config_of", lambda model: ClapAudioConfig(**SMALL))
    sides = ((64, 64), (32, 32), (16, 16), (8, 8))
    stages = tuple(htsat.Stage(2, 16 * 2**i, grid) for i, grid in enumerate(sides))
    monkeypatch.setattr(htsat, "STAGES", stages)
