"""HTS-AT in torch: transformers' ClapAudioEncoder block by block, nothing run past the last tap.

Legend: B batch, W segments of a window, S samples of a segment, N tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from avpipe.stages.backbones import front_ends, windows
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.backbones.devices import device_name, to_host, torch_device
from avpipe.stages.backbones.htsat_weights import hash_needed, load_encoder
from avpipe.stages.backbones.precision import autocast, check_device
from avpipe.stages.backbones.precision import compiled as compile_model


class Htsat:
    """A frozen HTS-AT on the waveforms of windows."""

    def __init__(
        self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str, compiled: bool
    ) -> None:
        self._device = torch_device(device)
        check_device(facts.precision, self._device)
        encoder = load_encoder(choice)
        self._sha256 = hash_needed(encoder)  # of the whole encoder, so that it does not depend on the taps
        model = TappedEncoder(encoder, taps).eval().requires_grad_(False).to(self._device)
        self._model = compile_model(model) if compiled else model
        self._front = front_ends.build(facts).to(self._device)
        self._rows = windows.rows_of(facts)
        self._precision = facts.precision

    @property
    def weights_sha256(self) -> str:
        """Hash of every tensor that a tap can depend on."""
        return self._sha256

    @property
    def device(self) -> str:
        """`cpu`, or the GPU by number and name."""
        return device_name(self._device)

    @torch.inference_mode()
    def features(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Raw block outputs float32 [B * W, N, C] by tap; `batch` is int16 [B, W * S]."""
        pictures = self._front(torch.from_numpy(batch).to(self._device))
        with autocast(self._precision, self._device):
            found = self._model(pictures)
        return to_host({tap: self._rows(tap, tokens.float()) for tap, tokens in found.items()})


class TappedEncoder(nn.Module):
    """The encoder as far as the last tap.

    Args:
        encoder: a whole `ClapAudioEncoder`; its stages and blocks behind the last tap are dropped.
        taps: names of blocks, `layers.STAGE.blocks.BLOCK`: the encoder's own names.
    """

    def __init__(self, encoder: Any, taps: tuple[str, ...]) -> None:
        super().__init__()
        self._taps = frozenset(taps)
        last_stage, last_block = max((stage_index(tap), int(tap.rpartition(".")[2])) for tap in taps)
        encoder.layers = encoder.layers[: last_stage + 1]
        encoder.layers[-1].blocks = encoder.layers[-1].blocks[: last_block + 1]
        encoder.layers[-1].downsample = None
        encoder.norm = nn.Identity()
        self.encoder: Any = encoder

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Log-mel pictures [B, 1, frames, mels] to block outputs [B, N, C] by tap."""
        encoder, found = self.encoder, {}
        tokens = embed(encoder, pictures)
        for number, stage in enumerate(encoder.layers):
            grid = encoder.input_resolutions[number]
            for position, block in enumerate(stage.blocks):
                tokens = block(tokens, grid)[0]
                tap = f"layers.{number}.blocks.{position}"
                if tap in self._taps:
                    found[tap] = tokens
            if stage.downsample is not None:
                tokens = stage.downsample(tokens, grid)
        return found


def embed(encoder: Any, pictures: Tensor) -> Tensor:
    """What the first block takes, [B, N, C], from log-mel pictures [B, 1, frames, mels]."""
    scaled = encoder.batch_norm(pictures.transpose(1, 3)).transpose(1, 3)
    tokens: Tensor = encoder.patch_embed(encoder.reshape_mel2img(scaled), ())  # (): no sound is longer than the window
    return tokens
