"""timm models with their weights in place: from the hub, from a file, or drawn."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import eva, swin_transformer, swin_transformer_v2, vision_transformer
from torch import Tensor, nn

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones import demo_weights, timm_audio_weights
from avpipe.stages.backbones.checkpoints import read
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts
from avpipe.stages.backbones.timm_hub import create_pretrained
from avpipe.stages.backbones.timm_table import Entry

State = dict[str, Tensor]


def build(choice: BackboneChoice, facts: BackboneFacts, entry: Entry) -> nn.Module:
    """The model of the chosen input size, with its weights in place.

    Raises:
        UsageError: the weights file does not fit.
        EnvironmentLacking: pretrained weights cannot be had here.
    """
    channels = 3 if facts.modality == "visual" else facts.preprocess["front_end"]["channels"]
    given = {**entry.options, "num_classes": 0, "img_size": facts.input_size, "in_chans": channels}
    if choice.weights == "pretrained":
        return create_pretrained(choice, entry, given)
    model: nn.Module = timm.create_model(entry.timm_name or choice.model, pretrained=False, **given)
    if choice.seed is not None:
        redraw(model, choice.seed)
    elif choice.weights == demo_weights.KEYWORD:
        load_file(model, demo_weights.file(choice.modality), choice, facts, entry)
    else:
        load_file(model, Path(choice.weights), choice, facts, entry)
    return model


OF_THE_TRUNK = re.compile(r"(blocks|layers|patch_embed|pos_embed|cls_token|dist_token|reg_token|norm_pre)\b")
"""Tensors on which tokens depend: where a file has more of them than the model, it is another model's."""
TABLES = re.compile(r"relative_position_index$|relative_coords_table$|attn_mask$|\.rope\.")
"""What some files hold beside the parameters; models compute it themselves."""
POST_NORM = ("ResPostBlock", "EvaBlockPostNorm", "SwinTransformerV2Block")
"""timm's blocks that normalise what they add: only the gain of that normalisation decides how much it is."""
INTO_THE_SUM = re.compile(r"(?<![qkv]_)proj\.weight$|\.fc2\.weight$")
"""Matrices whose product a block adds to its input."""
GROWTH = 1.1


def redraw(model: nn.Module, seed: int) -> None:
    """Random weights under which every block really changes its input, by at least 30 % in norm.

    timm's fresh weights leave many blocks near the identity (small linear layers, LayerScale near 0, Swin-V2's gains
    at 0). Here matrices are N(0, 1 / fan-in), embeddings, tokens and rotary frequencies N(0, 0.2^2), gains 1 and biases
    0, drawn by numpy in the order of the parameters' names, so that they depend on the seed alone. As the sum
    grows with every block, what deep blocks add grows too: 1.1 times from one block to the next.
    """
    rng = np.random.default_rng(seed)
    larger = dict(_growth(model))
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        if name.endswith("logit_scale"):
            value = np.full(shape, math.log(10), np.float32)  # as Swin-V2 starts: attention that is not flat
        elif name.endswith("bias") or ".lambda_" in name:
            value = np.zeros(shape, np.float32)
        elif name.endswith(("embed", "token", "rope.freqs")):
            value = 0.2 * rng.standard_normal(shape, dtype=np.float32)
        elif parameter.ndim >= 2:
            value = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        else:
            value = np.ones(shape, np.float32)
        parameter.data.copy_(torch.from_numpy(value * np.float32(larger.get(name, 1.0))))


def _growth(model: nn.Module) -> list[tuple[str, float]]:
    """How many times larger what a block adds is drawn, by parameter; blocks that need no more are left out."""
    found = []
    first = 6  # the sum of a few blocks is still small
    for path, block in model.named_modules():
        match = re.search(r"(?:^|\.)blocks\.(\d+)$", path)
        if match is None or int(match[1]) < first:
            continue
        after = ("norm1.weight", "norm2.weight") if type(block).__name__ in POST_NORM else ()
        for name, _ in block.named_parameters():
            if name in after or (not after and INTO_THE_SUM.search(name)):
                found.append((f"{path}.{name}", GROWTH ** (int(match[1]) - first + 1)))
    return found


def load_file(model: nn.Module, path: Path, choice: BackboneChoice, facts: BackboneFacts, entry: Entry) -> None:
    """Loads a local checkpoint (safetensors, or torch in weights-only fashion); every tensor of the model must come.

    Layouts other than timm's, and other sizes, are what timm's own filters know: OpenAI's and OpenCLIP's CLIP, DINOv2
    and DINOv3, EVA, the official Swin and Swin-V2. Heads and other tensors on which no tap
    depends are left out; of a file with averaged (EMA) weights beside the last ones, timm takes the averaged ones.

    Raises:
        UsageError: the file is none of these, or lacks tensors.
    """
    loaded = read(path, choice, lambda: timm.models.load_state_dict(str(path), weights_only=True))
    try:
        ready: State = {}
        if choice.modality == "audio":
            loaded, ready = timm_audio_weights.fit(loaded, model, facts)
        with contextlib.redirect_stdout(io.StringIO()):  # timm's filter for DINOv3 prints
            state = _filter(entry.kind, choice.model)(loaded, model)
        state = {key: _fit_channels(value, model, key) for key, value in state.items()} | ready
        missing, extra = model.load_state_dict(state, strict=False)
    except Exception as error:
        why = " ".join((str(error) or type(error).__name__).split())[:300]
        raise UsageError(f"weights file {path} does not fit {choice.model}: {why}") from error
    if missing:
        raise UsageError(
            f"weights file {path} does not fit {choice.model}: it lacks {len(missing)} tensors, such as {missing[0]}"
        )
    if foreign := [name for name in extra if OF_THE_TRUNK.match(name) and not TABLES.search(name)]:
        raise UsageError(
            f"weights file {path} is of another architecture than {choice.model}: that has no place for "
            f"{len(foreign)} of its tensors, such as {foreign[0]}; name the model that the weights are of"
        )


def _filter(kind: str, model: str) -> Callable[[State, nn.Module], State]:
    """What brings a checkpoint into timm's layout and to the size of the model, as timm does for its own weights."""
    others = {
        "eva": eva.checkpoint_filter_fn,
        "swin": swin_transformer.checkpoint_filter_fn,
        "swinv2": swin_transformer_v2.checkpoint_filter_fn,
    }
    if kind in others:
        chosen: Callable[[State, nn.Module], State] = others[kind]
        return chosen
    of_vit = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)
    return partial(of_vit, interpolation="bilinear", antialias=False) if re.search("flexi|radio", model) else of_vit


def _fit_channels(value: Tensor, model: nn.Module, key: str) -> Tensor:
    """Sums the colour channels of a patch embedding where the model takes one channel, as timm does."""
    if key != "patch_embed.proj.weight" or value.ndim != 4 or model.get_parameter(key).shape[1] == value.shape[1]:
        return value
    adapted: Tensor = timm.models.adapt_input_conv(model.get_parameter(key).shape[1], value)
    return adapted


def hash_tensors(state: State) -> str:
    """sha256 over names, dtypes, shapes and bytes of tensors, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
