"""Weights of HTS-AT: drawn, from the hub, from a CLAP folder, or from a checkpoint of the original code.

Names of tensors are those of transformers' ClapAudioEncoder, `layers.0.blocks.0.attention.self.query.weight`. The
original code calls them otherwise and keeps queries, keys and values in one tensor; `_ORIGINAL` says how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones.checkpoints import read
from avpipe.stages.backbones.contract import BackboneChoice
from avpipe.stages.backbones.htsat import MODELS
from avpipe.stages.backbones.htsat_source import fetch, weights_file
from avpipe.stages.backbones.timm_weights import redraw

ANCHOR = "patch_embed.proj.weight"
"""A tensor that every layout has under this name, behind the prefix of the file."""
UNUSED = ("norm.", "patch_embed.fusion_model.", "patch_embed.mel_conv2d.")
"""Parts that no tap depends on: the norm behind the last block, and the fusion of long sound."""

_ORIGINAL = (
    ("batch_norm.", "bn0."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".attention.self.relative_position_bias_table", ".attn.relative_position_bias_table"),
    (".attention.self.query.", ".attn.qkv."),
    (".attention.self.key.", ".attn.qkv."),
    (".attention.self.value.", ".attn.qkv."),
    (".attention.output.dense.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)
_THIRDS = {"query": 0, "key": 1, "value": 2}


def config_of(model: str) -> ClapAudioConfig:
    """The published sizes, which are transformers' defaults, with or without the parts for fusion."""
    return ClapAudioConfig(enable_fusion=MODELS[model].fusion)


def load_encoder(choice: BackboneChoice) -> ClapAudioEncoder:
    """The encoder with its weights in place, on the CPU.

    Raises:
        UsageError: the file or folder does not fit the model.
        EnvironmentLacking: pretrained weights cannot be had here.
    """
    if choice.seed is not None:
        encoder = ClapAudioEncoder(config_of(choice.model))
        redraw_encoder(encoder, choice.seed)
        return encoder
    hub = MODELS[choice.model].hub
    path = fetch(choice, hub) if choice.weights == "pretrained" else weights_file(Path(choice.weights), choice)
    found = read_tensors(path, choice)
    encoder = ClapAudioEncoder(config_of(choice.model))
    fit(encoder, found, path, choice.model)
    return encoder


def needed(encoder: ClapAudioEncoder) -> dict[str, Tensor]:
    """Every tensor that a tap can depend on: parameters, and the statistics of the batch norm."""
    statistics = {f"batch_norm.{name}": getattr(encoder.batch_norm, name) for name in ("running_mean", "running_var")}
    parameters = {name: value.data for name, value in encoder.named_parameters() if not name.startswith(UNUSED)}
    return parameters | statistics


def hash_needed(encoder: ClapAudioEncoder) -> str:
    """sha256 over names, shapes and bytes of those tensors, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(needed(encoder).items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def redraw_encoder(encoder: ClapAudioEncoder, seed: int) -> None:
    """Random weights under which every block changes its input, as for timm's models; log-mel of -30 +- 20 dB."""
    redraw(encoder, seed)
    tensors = needed(encoder)
    tensors["batch_norm.running_mean"].fill_(-30.0)
    tensors["batch_norm.running_var"].fill_(400.0)


def read_tensors(path: Path, choice: BackboneChoice) -> dict[str, Tensor]:
    """Tensors of a file: safetensors, or torch in weights-only fashion.

    Raises:
        UsageError: it holds something else.
    """

    def load() -> dict[str, Tensor]:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        tensors = loaded.get("state_dict", loaded)
        return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}

    return read(path, choice, load)


def fit(encoder: ClapAudioEncoder, found: dict[str, Tensor], path: Path, model: str) -> None:
    """Puts tensors of a file into an encoder, whichever layout they have.

    Raises:
        UsageError: some are missing, too many, or of another shape.
    """
    wrong = f"weights {path} do not fit {model}: "
    prefixes = [name.removesuffix(ANCHOR) for name in found if name.endswith(ANCHOR)]
    if len(prefixes) != 1:
        raise UsageError(f"{wrong}they have {len(prefixes)} tensors *{ANCHOR}, an HTS-AT has one")
    given = {name.removeprefix(prefixes[0]): value for name, value in found.items() if name.startswith(prefixes[0])}
    if MODELS[model].fusion != any(name.startswith("patch_embed.fusion_model.") for name in given):
        raise UsageError(f"{wrong}one of the two was made to fuse long sound, the other not: choose the other model")
    original = "layers.0.blocks.0.attn.qkv.weight" in given
    targets = needed(encoder)
    sources = {name: original_name(name) if original else name for name in targets}
    if lacking := sorted(set(sources.values()) - given.keys()):
        raise UsageError(f"{wrong}they lack {len(lacking)} tensors, such as {prefixes[0]}{lacking[0]}")
    if deeper := sorted(_blocks(given) - _blocks(targets)):
        raise UsageError(f"{wrong}they are of a deeper model, with {prefixes[0]}{deeper[0]}")
    for name, target in targets.items():
        value = given[sources[name]]
        third = next((part for kind, part in _THIRDS.items() if original and f".self.{kind}." in name), None)
        value = value if third is None else value.chunk(3)[third]
        if value.shape != target.shape:
            raise UsageError(
                f"{wrong}{prefixes[0]}{sources[name]} is {list(value.shape)}, the model has {list(target.shape)}"
            )
        target.copy_(value)


def _blocks(names: Iterable[str]) -> set[str]:
    """Blocks that tensors belong to: `layers.0.blocks.1`."""
    return {".".join(name.split(".")[:4]) for name in names if ".blocks." in name}


def original_name(name: str) -> str:
    """What the original code calls a tensor of the encoder, or the tensor that holds it."""
    for ours, theirs in _ORIGINAL:
        if ours in name:
            return name.replace(ours, theirs)
    return name
