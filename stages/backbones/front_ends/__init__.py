"""What turns samples into the picture that an audio backbone takes: specs by name, and one torch module for each kind.

Importing this imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe.stages.backbones.contract import BackboneFacts
from avpipe.stages.backbones.front_ends.specs import NAMES, SPECS, DecibelSpec, FbankSpec, LogMelSpec, Spec, read, spec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NAMES", "SPECS", "DecibelSpec", "FbankSpec", "LogMelSpec", "Spec", "build", "read", "spec"]


def build(facts: BackboneFacts) -> nn.Module:
    """The front end of an audio backbone: int16 [B, W * S] to float32 [B, channels, rows, columns].

    Windows (`preprocess["window"]`) are filled to the length that the model takes before anything else. Run it outside
    autocast and `torch.compile`: what it computes belongs to the fingerprint.
    """
    from torch import nn

    front, window = _module(read(facts.preprocess["front_end"]), facts.input_size), facts.preprocess.get("window")
    if window is None:
        return front
    from avpipe.stages.backbones.front_ends.fill import Fill

    return nn.Sequential(Fill(window), front)


def _module(found: Spec, size: tuple[int, int]) -> nn.Module:
    if isinstance(found, LogMelSpec):
        from avpipe.stages.backbones.front_ends.logmel import LogMel

        return LogMel(found, size)
    if isinstance(found, FbankSpec):
        from avpipe.stages.backbones.front_ends.fbank import Fbank

        return Fbank(found)
    from avpipe.stages.backbones.front_ends.decibel import Decibel

    return Decibel(found)
