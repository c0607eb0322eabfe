"""Weights of HTS-AT: the original checkpoint layout, CLAP folders, hashes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones import BackboneChoice, htsat_weights
from avpipe.stages.backbones.htsat_weights import fit, hash_needed, load_encoder, needed

SMALL = {"patch_embeds_hidden_size": 16, "depths": [2, 2, 2, 2], "num_attention_heads": [2, 2, 4, 4]}
PUBLISHED = {"dim": 96, "depths": (2, 2, 6, 2), "heads": (4, 8, 16, 32)}
HIDDEN = {"dim": 16, "depths": (2, 2, 2, 2), "heads": (2, 2, 4, 4)}


def _original_shapes(dim, depths, heads):
    """Names and shapes in a checkpoint of the original code, written down from its published configuration."""
    shapes = {"spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024), "logmel_extractor.melW": (513, 64)}
    shapes |= {f"bn0.{name}": (64,) for name in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"patch_embed.proj.weight": (dim, 1, 4, 4), "patch_embed.proj.bias": (dim,)}
    shapes |= {"patch_embed.norm.weight": (dim,), "patch_embed.norm.bias": (dim,)}
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        width = dim * 2**stage
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}."
            for norm in ("norm1", "norm2"):
                shapes |= {f"{at}{norm}.weight": (width,), f"{at}{norm}.bias": (width,)}
            shapes[f"{at}attn.relative_position_bias_table"] = (15 * 15, count)
            shapes[f"{at}attn.relative_position_index"] = (64, 64)
            for name, (out, into) in {
                "attn.qkv": (3, 1),
                "attn.proj": (1, 1),
                "mlp.fc1": (4, 1),
                "mlp.fc2": (1, 4),
            }.items():
                shapes |= {f"{at}{name}.weight": (out * width, into * width), f"{at}{name}.bias": (out * width,)}
            if block % 2 and stage < 3:
                shapes[f"{at}attn_mask"] = (1, 64, 64)
        if stage < 3:
            at = f"layers.{stage}.downsample."
            shapes |= {f"{at}reduction.weight": (2 * width, 4 * width)}
            shapes |= {f"{at}norm.weight": (4 * width,), f"{at}norm.bias": (4 * width,)}
    last = dim * 8
    shapes |= {"norm.weight": (last,), "norm.bias": (last,), "tscam_conv.weight": (527, last, 2, 3)}
    return shapes | {"tscam_conv.bias": (527,), "head.weight": (527, 527), "head.bias": (527,)}


def _original(seed=0, **sizes):
    generator = torch.Generator().manual_seed(seed)
    shapes = _original_shapes(**sizes)
    return {f"sed_model.{name}": torch.rand(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def small(monkeypatch):
    """Models of a sixth of the width."""

    def config_of(model):
        return ClapAudioConfig(**SMALL, enable_fusion=model == "clap_htsat_fused")

    monkeypatch.setattr(htsat_weights, "config_of", config_of)


def _choice(path, model="htsat"):
    return BackboneChoice("audio", model, str(path))


def _checkpoint(path, state):
    torch.save({"state_dict": state, "epoch": 3}, path)
    return _choice(path)


def test_the_original_layout_comes_whole_at_its_published_sizes():
    state = _original(**PUBLISHED)
    encoder = ClapAudioEncoder(htsat_weights.config_of("htsat"))
    fit(encoder, state, Path("x.ckpt"), "htsat")
    found = needed(encoder)
    unused = ("norm.weight", "norm.bias")
    assert {name for name in encoder.state_dict() if "index" not in name and "num_batches" not in name} == {
        *found,
        *unused,
    }
    assert sum(value.numel() for value in found.values()) == sum(
        value.numel()
        for name, value in state.items()
        if not any(part in name for part in ("_index", "_mask", "extractor", "tscam", "head", "sed_model.norm."))
    )
    block = "layers.2.blocks.5."
    qkv = state[f"sed_model.{block}attn.qkv.weight"]
    for part, name in enumerate(("query", "key", "value")):
        assert torch.equal(found[f"{block}attention.self.{name}.weight"], qkv[384 * part : 384 * (part + 1)])
    assert torch.equal(found["batch_norm.running_var"], state["sed_model.bn0.running_var"])
    assert torch.equal(found[f"{block}output.dense.bias"], state[f"sed_model.{block}mlp.fc2.bias"])
    assert torch.equal(found[f"{block}attention.output.dense.bias"], state[f"sed_model.{block}attn.proj.bias"])


@torch.inference_mode()
def test_a_block_computes_what_the_original_formula_says(small, tmp_path):
    """One unshifted window, computed from the checkpoint's own tensors."""
    state = {name: value - 0.5 for name, value in _original(**HIDDEN).items()}
    encoder = load_encoder(_checkpoint(tmp_path / "-x.ckpt", state)).eval()
    at = "sed_model.layers.3.blocks.0."
    linear, normal = nn.functional.linear, nn.functional.layer_norm
    tokens = torch.randn(1, 64, 128, generator=torch.Generator().manual_seed(1))
    found = encoder.layers[3].blocks[0](tokens, (8, 8))[0]

    def weights(name):
        return state[f"{at}{name}.weight"], state[f"{at}{name}.bias"]

    inner = normal(tokens, (128,), *weights("norm1"))
    query, key, value = linear(inner, *weights("attn.qkv")).reshape(64, 3, 4, 32).permute(1, 2, 0, 3)
    scores = query @ key.transpose(1, 2) * 32**-0.5
    for i in range(64):
        for j in range(64):
            row, column = i // 8 - j // 8 + 7, i % 8 - j % 8 + 7
            scores[:, i, j] += state[f"{at}attn.relative_position_bias_table"][row * 15 + column]
    mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(1, 64, 128)
    middle = tokens + linear(mixed, *weights("attn.proj"))
    inner = nn.functional.gelu(linear(normal(middle, (128,), *weights("norm2")), *weights("mlp.fc1")))
    torch.testing.assert_close(found, middle + linear(inner, *weights("mlp.fc2")), rtol=1e-4, atol=1e-4)


def test_the_same_weights_have_one_hash_whatever_the_layout(small, tmp_path):
    drawn = load_encoder(BackboneChoice("audio", "htsat", "random:3"))
    folder = _clap_folder(tmp_path / "clap", drawn)
    save_file({f"audio_encoder.{name}": value for name, value in needed(drawn).items()}, tmp_path / "a.safetensors")
    half = {name: value.double() for name, value in needed(drawn).items()}
    torch.save(half, tmp_path / "plain.pt")
    found = {
        hash_needed(load_encoder(choice))
        for choice in (
            _choice(folder, "clap_htsat_unfused"),
            _choice(tmp_path / "a.safetensors"),
            _choice(tmp_path / "plain.pt"),
            _checkpoint(tmp_path / "x.ckpt", _to_original(drawn)),
        )
    }
    assert found == {hash_needed(drawn)}
    assert hash_needed(load_encoder(BackboneChoice("audio", "htsat", "random:4"))) not in found


def _to_original(encoder):
    """The inverse of the mapping, by walking the modules."""
    state = {}

    def put(name, module):
        state.update({f"sed_model.{name}.{key}": value for key, value in module.state_dict().items()})

    put("bn0", encoder.batch_norm)
    put("patch_embed", encoder.patch_embed)
    for i, stage in enumerate(encoder.layers):
        for j, block in enumerate(stage.blocks):
            at, own = f"layers.{i}.blocks.{j}.", block.attention.self
            put(f"{at}norm1", block.layernorm_before)
            put(f"{at}norm2", block.layernorm_after)
            put(f"{at}attn.proj", block.attention.output.dense)
            put(f"{at}mlp.fc1", block.intermediate.dense)
            put(f"{at}mlp.fc2", block.output.dense)
            state[f"sed_model.{at}attn.relative_position_bias_table"] = own.relative_position_bias_table
            for key in ("weight", "bias"):
                state[f"sed_model.{at}attn.qkv.{key}"] = torch.cat(
                    [getattr(m, key) for m in (own.query, own.key, own.value)]
                )
        if stage.downsample is not None:
            put(f"layers.{i}.downsample", stage.downsample)
    return state


def _clap_folder(folder, encoder, kind="clap"):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    state = {f"audio_model.audio_encoder.{name}": value for name, value in encoder.state_dict().items()}
    state = {name: value.clone() for name, value in state.items()}
    save_file(state | {"text_model.embeddings.weight": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def test_a_folder_is_a_request_of_its_own(small, tmp_path):
    folder = _clap_folder(tmp_path / "clap", load_encoder(BackboneChoice("audio", "htsat", "random:0")))
    before = _choice(folder, "clap_htsat_unfused").request()
    assert before["bytes"] > 100_000
    (folder / "config.json").write_text(json.dumps({"model_type": "clap", "more": 1}))
    assert _choice(folder, "clap_htsat_unfused").request() != before


def test_weights_that_do_not_fit_are_named(small, tmp_path):
    state = _original(**HIDDEN)

    def refused(match, state=None, choice=None):
        with pytest.raises(UsageError, match=match):
            load_encoder(choice or _checkpoint(tmp_path / "x.ckpt", state))

    lacking = {name: value for name, value in state.items() if "layers.3.blocks.1.mlp" not in name}
    refused(r"lack 4 tensors, such as sed_model\.layers\.3\.blocks\.1\.mlp\.fc1\.bias", lacking)
    refused(r"deeper model, with sed_model\.layers\.2\.blocks\.2", _original(**HIDDEN | {"depths": (2, 2, 6, 2)}))
    refused(r"bn0.weight is \[128\], the model has \[64\]", state | {"sed_model.bn0.weight": torch.zeros(128)})
    refused(r"have 0 tensors \*patch_embed", {"conv.weight": torch.zeros(1)})
    refused(
        "made to fuse long sound", state | {"sed_model.patch_embed.fusion_model.local_att.0.weight": torch.zeros(1)}
    )
    drawn = load_encoder(BackboneChoice("audio", "htsat", "random:0"))
    refused("made to fuse long sound", choice=_choice(_clap_folder(tmp_path / "clap", drawn), "clap_htsat_fused"))
    refused("of type 'bert'", choice=_choice(_clap_folder(tmp_path / "bert", drawn, "bert")))
    (tmp_path / "empty").mkdir()
    refused("no readable config.json", choice=_choice(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "clap"}')
    refused(r"neither model.safetensors nor pytorch_model\.bin", choice=_choice(tmp_path / "empty"))
