"""timm ViTs in torch: taps by hooks on the blocks, nothing run past the last tap.

Shapes: B batch, N tokens, C channels, H height, W width, S samples.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.stages.backbones import demo_weights
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts
from avpipe.stages.backbones.logmel import LogMel


class TimmVit:
    """A frozen timm ViT on frames (RGB) or on log-mel pictures (one channel)."""

    def __init__(self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str) -> None:
        self._device = _torch_device(device)
        model = _build(choice, facts)
        self._sha256 = hash_tensors(model.state_dict())  # of the whole model, so that it does not depend on the taps
        last = max(list(facts.taps).index(tap) for tap in taps)
        model.blocks = nn.Sequential(*list(model.blocks.children())[: last + 1])
        self._tokens: dict[str, Tensor] = {}
        for tap in taps:
            model.get_submodule(tap).register_forward_hook(partial(self._keep, tap))
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._front = make_front_end(facts).to(self._device)

    @property
    def weights_sha256(self) -> str:
        """Hash of all tensors of the model."""
        return self._sha256

    @property
    def device(self) -> str:
        """`cpu`, or the GPU by number and name."""
        if self._device.type == "cpu":
            return "cpu"
        return f"{self._device} {torch.cuda.get_device_name(self._device)}"

    def _keep(self, tap: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._tokens[tap] = output

    @torch.inference_mode()
    def features(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Raw block outputs float32 [B, N, C] by tap; `batch` is uint8 [B, H, W, 3] or int16 [B, S]."""
        self._model.forward_features(self._front(torch.from_numpy(batch).to(self._device)))
        found = {tap: tokens.float().cpu().numpy() for tap, tokens in self._tokens.items()}
        self._tokens.clear()
        return found


def _torch_device(name: str) -> torch.device:
    """The device by name; `auto` is the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentLacking(
            f"device {name!r}: torch finds {torch.cuda.device_count()} GPUs here; give --device cpu"
        )
    return device


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
    return LogMel(facts.preprocess["front_end"], facts.input_size)


def _build(choice: BackboneChoice, facts: BackboneFacts) -> VisionTransformer:
    """The model with its weights in place."""
    pretrained = choice.weights == "pretrained"
    build = partial(
        timm.create_model,
        choice.model,
        num_classes=0,
        img_size=facts.input_size,
        in_chans=3 if facts.modality == "visual" else 1,
    )
    try:
        model = build(pretrained=pretrained)
    except Exception as error:
        if not pretrained:
            raise
        raise EnvironmentLacking(
            f"pretrained weights of {choice.model} cannot be had here ({type(error).__name__}): download them on a "
            "machine with internet access and give the file with --weights FILE, or ask for random weights with "
            "--weights random:SEED"
        ) from error
    assert isinstance(model, VisionTransformer)
    if choice.seed is not None:
        redraw(model, choice.seed)
    elif choice.weights == demo_weights.KEYWORD:
        _load_file(model, demo_weights.file(choice.modality), choice)
    elif not pretrained:
        _load_file(model, Path(choice.weights), choice)
    return model


def redraw(model: nn.Module, seed: int) -> None:
    """Random weights under which every block really changes its input.

    timm's fresh weights leave many blocks near the identity (small linear layers, LayerScale near 0). Here matrices are
    N(0, 1 / fan-in), embeddings and tokens N(0, 0.2^2), gains 1 and biases 0, drawn by numpy in the order of the
    parameters' names, so that they depend on the seed alone.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        if name.endswith("bias"):
            value = np.zeros(shape, np.float32)
        elif name.endswith(("embed", "token")):
            value = 0.2 * rng.standard_normal(shape, dtype=np.float32)
        elif parameter.ndim >= 2:
            value = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        else:
            value = np.ones(shape, np.float32)
        parameter.data.copy_(torch.from_numpy(value))


def _load_file(model: VisionTransformer, path: Path, choice: BackboneChoice) -> None:
    """Loads a local checkpoint (safetensors, or torch in weights-only fashion); every tensor of the model must come."""
    from timm.models import load_state_dict

    try:
        loaded = load_state_dict(str(path), weights_only=True)
    except Exception as error:
        raise UsageError(
            f"weights file {path} is no safetensors file and no torch checkpoint of plain tensors "
            f"({type(error).__name__}): give another with --weights"
        ) from error
    try:
        positions = _positions_of_sound(loaded, model) if choice.modality == "audio" else {}
        state = checkpoint_filter_fn({key: value for key, value in loaded.items() if key not in positions}, model)
        state = {key: _fit_channels(value, model, key) for key, value in state.items()} | positions
        missing, _ = model.load_state_dict(state, strict=False)
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"weights file {path} does not fit {choice.model}: {why}") from error
    if missing:
        raise UsageError(
            f"weights file {path} does not fit {choice.model}: it lacks {len(missing)} tensors, such as {missing[0]}"
        )


def _positions_of_sound(loaded: dict[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """`pos_embed` of weights that were trained on sound, for pictures of this segment length.

    A longer segment is a wider picture, so positions are resampled along time, as timm does for pictures of other
    sizes. timm would take the grid of the file for a square one; sound has as many rows as the model, whatever its
    length. Weights trained on square pictures are left to timm.

    Raises:
        ValueError: the grid of the file cannot be told.
    """
    stored, own = loaded.get("pos_embed"), model.pos_embed
    if stored is None or own is None:
        return {}
    prefix = own.shape[1] - model.patch_embed.num_patches
    count, rows = stored.shape[1] - prefix, model.patch_embed.grid_size[0]
    if math.isqrt(count) ** 2 == count:
        return {}
    if count % rows:
        raise ValueError(
            f"its {count} positions are neither a square nor {rows} rows, which log-mel pictures have here"
        )
    old = [rows, count // rows]
    return {"pos_embed": resample_abs_pos_embed(stored, list(model.patch_embed.grid_size), old, prefix)}


def _fit_channels(value: Tensor, model: nn.Module, key: str) -> Tensor:
    """Sums the colour channels of a patch embedding where the model takes one channel, as timm does."""
    if key != "patch_embed.proj.weight" or value.ndim != 4 or model.get_parameter(key).shape[1] == value.shape[1]:
        return value
    from timm.models import adapt_input_conv

    adapted: Tensor = adapt_input_conv(model.get_parameter(key).shape[1], value)
    return adapted


def hash_tensors(state: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes of tensors, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
