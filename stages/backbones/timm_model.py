"""timm models in torch: taps by hooks on the blocks, nothing run past the last tap.

Shapes: B batch, W segments of a window, N tokens, C channels, H height (rows), W width (columns), S audio samples.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from avpipe.stages.backbones import front_ends, windows
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.backbones.devices import device_name, to_host, torch_device
from avpipe.stages.backbones.precision import autocast, check_device, compiled
from avpipe.stages.backbones.timm_table import Entry
from avpipe.stages.backbones.timm_weights import build, hash_tensors


class TimmModel:
    """A frozen timm model on frames or on pictures of sound."""

    def __init__(
        self,
        choice: BackboneChoice,
        facts: BackboneFacts,
        entry: Entry,
        taps: tuple[str, ...],
        device: str,
        compile_it: bool = False,
    ) -> None:
        self._device, self._precision = torch_device(device), facts.precision
        check_device(self._precision, self._device)
        model = build(choice, facts, entry)
        self._sha256 = hash_tensors(model.state_dict())  # of the whole model, so that it does not depend on the taps
        self._model = Tapped(model, taps).eval().requires_grad_(False).to(self._device)
        self._run = compiled(self._model) if compile_it else self._model
        self._front = make_front_end(facts).to(self._device)
        self._rows = windows.rows_of(facts)

    @property
    def weights_sha256(self) -> str:
        """Hash of all tensors of the model."""
        return self._sha256

    @property
    def device(self) -> str:
        """`cpu`, or the GPU by number and name."""
        return device_name(self._device)

    @torch.inference_mode()
    def features(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Raw block outputs float32 [B * W, N, C] by tap; `batch` is uint8 [B, H, W, 3] or int16 [B, W * S]."""
        pictures = self._front(torch.from_numpy(batch).to(self._device))
        with autocast(self._precision, self._device):
            found = self._run(pictures)
        return to_host({tap: self._rows(tap, tokens.float()) for tap, tokens in found.items()})


class Tapped(nn.Module):
    """A timm model cut behind its last tap: pictures [B, channels, H, W] to tokens [B, N, C] by tap.

    It is one module, hooks and all, so that `torch.compile` sees that the taps are what is wanted.
    """

    def __init__(self, model: nn.Module, taps: tuple[str, ...]) -> None:
        super().__init__()
        self.model: Any = cut(model, taps)
        self._tokens: dict[str, Tensor] = {}
        for tap in taps:
            model.get_submodule(tap).register_forward_hook(partial(self._keep, tap))

    def _keep(self, tap: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._tokens[tap] = output.flatten(1, 2) if output.ndim == 4 else output  # Swin's are [B, rows, columns, C]

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Runs the model."""
        self._tokens = {}
        self.model.forward_features(pictures)
        found, self._tokens = self._tokens, {}
        return found


def cut(model: Any, taps: tuple[str, ...]) -> Any:
    """Takes away, in place, all that is behind the last tap: blocks, stages, the last normalisation."""
    stage, block = max((stage_index(tap), int(tap.rpartition(".")[2])) for tap in taps)
    last = model
    if isinstance(stages := getattr(model, "layers", None), nn.Sequential):
        model.layers = stages[: stage + 1]
        last = model.layers[stage]
    last.blocks = last.blocks[: block + 1]
    model.norm = nn.Identity()
    return model


class _Normalise(nn.Module):
    """uint8 frames [B, H, W, 3] to standardised float32 [B, 3, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255)

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.permute(0, 3, 1, 2).float() - self.mean) / self.std


def make_front_end(facts: BackboneFacts) -> nn.Module:
    """From what is stored (uint8 frames, int16 samples) to the model's input."""
    if facts.modality == "visual":
        return _Normalise(facts.preprocess["mean"], facts.preprocess["std"])
    return front_ends.build(facts)
