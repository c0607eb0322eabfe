"""timm models on sound: which picture they are shown, windows, and weights in the layouts of AST and AudioMAE."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import timm
import torch

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, front_ends, load, windows
from avpipe.stages.backbones.timm_audio_weights import fit
from avpipe.stages.backbones.timm_weights import redraw

AUDIOMAE = "vit_base_patch16_1024_128"
AST = "deit_base_distilled_patch16_384"


def _choice(model="test_vit", weights="random:0", **options):
    return BackboneChoice("audio", model, weights, **options)


def _facts(*arguments, seconds=1.0, **options):
    return facts_of(_choice(*arguments, **options), Timeline(segment_seconds=seconds))


def _sound(rows, seconds=1.0, rate=16_000):
    return np.random.default_rng(0).integers(-9000, 9000, (rows, int(rate * seconds))).astype(np.int16)


def test_the_front_end_follows_the_weights():
    facts = _facts(f"{AUDIOMAE}.audiomae_as2m")
    assert facts.preprocess["front_end"] == front_ends.spec("audiomae")
    assert (facts.input_size, facts.sample_rate, facts.window_segments) == ((1024, 128), 16_000, 1)
    assert facts.grids["blocks.11"] == (64, 8)
    assert facts.taps["blocks.11"] == (513, 768)
    assert facts.preprocess["window"]["samples"] == 160_000
    other = facts_of(_choice(), Timeline(sample_rate=22_050))
    assert other.preprocess == {"front_end": front_ends.spec("logmel", sample_rate=22_050)}
    assert other.sample_rate == 22_050


def test_ast_and_audiomae_pictures_in_windows():
    for name, own in (("ast", (8, 64)), ("audiomae", (64, 8))):
        facts = _facts(front_end=name)
        assert (facts.grids["blocks.0"], facts.window_segments) == (own, 1)
        facts = _facts(front_end=name, window="clip")
        assert (facts.grids["blocks.0"], facts.window_segments) == ((8, 6), 10)  # 0.16 s a column
        assert facts.preprocess["window"]["samples"] == 160_000  # and silence is no part of the 0.24 s beyond
    assert _facts(front_end="ast", window="clip", seconds=3.0).window_segments == 3


@pytest.mark.parametrize(
    ("model", "size", "hop"),
    [("swinv2_large_window12_192", 192, 83), ("vit_base_patch16_224", 224, 71), ("swinv2_tiny_window8_256", 256, 62)],
)
def test_lavish_shows_a_model_its_own_picture(model, size, hop):
    facts = _facts(model, front_end="lavish")
    visual = facts_of(BackboneChoice("visual", model, "random:0"), Timeline())
    assert facts.input_size == visual.input_size == (size, size)
    assert facts.stages == visual.stages
    front_end = facts.preprocess["front_end"]
    assert front_end == front_ends.spec("lavish", frames=size, mels=size, hop=hop)
    assert front_ends.build(facts)(torch.from_numpy(_sound(1))).shape == (1, 3, size, size)
    assert 0 <= size - (1 + (16_000 - 400) // hop) <= 4  # the sound fills the picture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"front_end": "lavsh"}, "unknown audio front end 'lavsh': did you mean 'lavish'"),
        ({"front_end": "htsat"}, "'htsat' is not for test_vit, which takes logmel, lavish, ast, audiomae"),
        ({"model": AUDIOMAE, "front_end": "ast"}, f"'ast' is not for {AUDIOMAE}, which takes audiomae"),
        ({"window": "clip"}, "front end 'logmel' shows test_vit one segment"),
        ({"front_end": "lavish", "window": "clip"}, "front end 'lavish' shows test_vit one segment"),
        ({"window": "clips"}, "unknown audio window 'clips': did you mean 'clip'"),
        ({"front_end": "ast", "window": "clips"}, "unknown audio window 'clips': did you mean 'clip'"),
        ({"image_size": 64}, "image_size is for the visual backbone and for the audio front end `lavish`"),
        ({"model": "vit_small_patch14_dinov2", "front_end": "ast"}, "no multiple of its patch, 14 pixels"),
        ({"front_end": "ast", "seconds": 12.0}, "longer than what test_vit hears at once, 10.0 s"),
        ({"front_end": "lavish", "seconds": 0.02}, "too short for a picture of 160 frames"),
        ({"seconds": 0.1}, "too short for the patches"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        _facts(**options)


def test_a_model_of_sound_takes_no_frames():
    with pytest.raises(UsageError, match="takes no frames"):
        facts_of(BackboneChoice("visual", AUDIOMAE, "random:0"), Timeline())


def test_lavish_shares_weights_and_hash_with_the_visual_backbone(tmp_path):
    model = timm.create_model("test_vit", num_classes=0)
    redraw(model, 7)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    audio = _choice(weights=str(tmp_path / "w.pt"), front_end="lavish", image_size=96)
    visual = BackboneChoice("visual", "test_vit", str(tmp_path / "w.pt"), 96)
    heard, seen = (load(each, facts_of(each, Timeline()), ("blocks.5",), "cpu") for each in (audio, visual))
    assert heard.weights_sha256 == seen.weights_sha256
    sound = _sound(2)
    picture = front_ends.build(facts_of(audio, Timeline()))(torch.from_numpy(sound))
    model.eval().set_input_size(img_size=96)
    with torch.inference_mode():
        expected = model.forward_intermediates(picture, output_fmt="NLC", return_prefix_tokens=True)[1][-1]
    patches, prefix = expected
    np.testing.assert_allclose(
        heard.features(sound)["blocks.5"], torch.cat([prefix, patches], 1).numpy(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["ast", "audiomae"])
def test_tokens_of_a_window_come_back_to_their_segments(name):
    """Time lies along the columns for AST and along the rows for AudioMAE."""
    sound = np.zeros((1, 10, 16_000), np.int16)
    sound[0, 3] = _sound(1)
    facts = _facts(front_end=name, window="clip")
    backbone = load(_choice(front_end=name, window="clip"), facts, ("blocks.0",), "cpu")
    found = backbone.features(sound.reshape(1, -1))["blocks.0"]
    assert found.shape == (10, 1 + 8 * 6, 64)
    own = _facts(front_end=name)  # the same model without the map
    picture = front_ends.build(facts)(torch.from_numpy(sound.reshape(1, -1)))
    model = timm.create_model("test_vit", num_classes=0, img_size=own.input_size, in_chans=1).eval()
    redraw(model, 0)
    with torch.inference_mode():
        tokens = model.blocks[0](model.norm_pre(model._pos_embed(model.patch_embed(picture))))[0].numpy()
    grid = tokens[1:].reshape(*own.grids["blocks.0"], 64)
    by_band = grid if name == "ast" else grid.swapaxes(0, 1)  # [8 bands, 64 columns of time, C]
    shares = windows.overlap_map(10, 1.0, 64, 0.16)
    expected = np.einsum("tc,bcd->btd", shares, by_band).reshape(8, 10, 6, 64).swapaxes(0, 1).reshape(10, 48, 64)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[:, 0], np.repeat(tokens[:1], 10, axis=0), rtol=1e-4, atol=1e-4)
    loudness = picture[0, 0].mean(0 if name == "ast" else 1)
    assert loudness[305:395].min() > loudness[:295].max()  # the picture really has the sound where segment 3 is


def _named(model, **others):
    """A state dict on the meta device: the model's names and shapes, and others."""
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()} | others
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items() if shape is not None}


def _shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


DECODER = {
    "mask_token": (1, 1, 512),
    "decoder_pos_embed": (1, 513, 512),
    "decoder_embed.weight": (512, 768),
    "decoder_blocks.0.norm1.weight": (512,),
    "decoder_norm.weight": (512,),
    "decoder_pred.weight": (256, 512),
}


@pytest.mark.parametrize("norm", ["norm", "fc_norm"])
def test_published_audiomae_checkpoints_fit_by_name_and_shape(norm):
    """The pretrained one has a decoder and `norm`, a fine-tuned one `fc_norm` and a head."""
    with torch.device("meta"):
        model = timm.create_model(
            "vit_base_patch16_224", img_size=(1024, 128), in_chans=1, num_classes=0, global_pool="avg"
        )
    leaves = {f"fc_norm.{leaf}": None for leaf in ("weight", "bias")} if norm == "norm" else {}
    loaded = _named(model, **leaves, **{f"{norm}.weight": (768,), f"{norm}.bias": (768,)})
    loaded |= _named(torch.nn.Identity(), **(DECODER if norm == "norm" else {"head.weight": (527, 768)}))
    assert tuple(loaded["pos_embed"].shape) == (1, 513, 768)
    assert tuple(loaded["patch_embed.proj.weight"].shape) == (768, 1, 16, 16)
    rest, ready = fit(loaded, model, _facts(AUDIOMAE))
    found = _shapes(rest | ready)
    found.pop("head.weight", None)
    assert found == _shapes(model.state_dict())


def test_an_audiomae_checkpoint_loads_with_its_positions(tmp_path):
    model = timm.create_model("test_vit", img_size=(1024, 128), in_chans=1, num_classes=0)
    redraw(model, 3)
    decoder = {key: torch.zeros(shape) for key, shape in DECODER.items()}
    torch.save({"model": model.state_dict() | decoder, "args": argparse.Namespace(lr=1)}, tmp_path / "mae.pth")
    choice = _choice(weights=str(tmp_path / "mae.pth"), front_end="audiomae")
    loaded = load(choice, _facts(front_end="audiomae"), ("blocks.0",), "cpu")
    drawn = load(_choice(weights="random:3", front_end="audiomae"), _facts(front_end="audiomae"), ("blocks.0",), "cpu")
    assert loaded.weights_sha256 == drawn.weights_sha256
    with pytest.raises(UsageError, match="belong to --audio-front-end audiomae"):
        load(_choice(weights=choice.weights, front_end="ast"), _facts(front_end="ast"), ("blocks.0",), "cpu")


def _as_ast(state):
    """A distilled DeiT's tensors under AST's names, in a file as `DataParallel` writes it."""
    heads = {
        "mlp_head.0.weight": torch.ones(4),
        "mlp_head.1.weight": torch.ones(527, 4),
        "v.head.weight": torch.ones(1),
    }
    return {
        f"module.{key}": value for key, value in ({f"v.{key}": value for key, value in state.items()} | heads).items()
    }


def test_published_ast_checkpoints_fit_by_name_and_shape():
    with torch.device("meta"):
        model = timm.create_model(AST, img_size=(128, 1024), in_chans=1, num_classes=0)
    loaded = _named(torch.nn.Identity(), **_ast_shapes(model))
    loaded["v.pos_embed"] = torch.zeros(loaded["v.pos_embed"].shape)
    rest, ready = fit(loaded, model, _facts(AST, front_end="ast"))
    assert _shapes(rest | ready) == _shapes(model.state_dict())


def _ast_shapes(model):
    shapes = {f"v.{key}": tuple(value.shape) for key, value in model.state_dict().items()}
    return shapes | {
        "v.pos_embed": (1, 2 + 12 * 101, 768),
        "mlp_head.0.weight": (768,),
        "mlp_head.1.weight": (527, 768),
    }


def test_ast_positions_stay_where_they_lie_on_the_picture(tmp_path):
    """Positions that say where the centre of their patch is, in bands and frames, must still say so afterwards."""
    name = "deit_tiny_distilled_patch16_224"
    model = timm.create_model(name, img_size=(128, 1024), in_chans=1, num_classes=0)
    redraw(model, 5)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    old = torch.zeros(1, 12, 101, 192)
    old[..., 0] = 8 + 10 * torch.arange(12)[:, None]
    old[..., 1] = 8 + 10 * torch.arange(101)
    prefix = torch.full((1, 2, 192), 7.0)
    torch.save(_as_ast(state | {"pos_embed": torch.cat([prefix, old.flatten(1, 2)], 1)}), tmp_path / "ast.pth")
    choice = _choice(name, str(tmp_path / "ast.pth"), front_end="ast")
    backbone = load(choice, _facts(name, front_end="ast"), ("blocks.0",), "cpu")
    found = backbone._model.model.state_dict()
    torch.testing.assert_close(found["patch_embed.proj.weight"], state["patch_embed.proj.weight"])
    positions = found["pos_embed"][0]
    assert (positions[:2] == 7).all()
    grid = positions[2:].view(8, 64, 192)
    centres = (8 + 16 * torch.arange(8.0)).clamp(max=118), (8 + 16 * torch.arange(64.0)).clamp(max=1008)
    torch.testing.assert_close(grid[..., 0], centres[0][:, None].expand(8, 64))
    torch.testing.assert_close(grid[..., 1], centres[1].expand(8, 64))
    assert backbone.features(_sound(1))["blocks.0"].shape == (1, 514, 192)
    for model_name, front_end, message in (
        (name, "logmel", "AST's weights belong to --audio-front-end ast"),
        ("deit_tiny_patch16_224", "ast", "need deit_base_distilled_patch16_384"),
    ):
        wrong = _choice(model_name, choice.weights, front_end=front_end)
        with pytest.raises(UsageError, match=message):
            load(wrong, facts_of(wrong, Timeline()), ("blocks.0",), "cpu")
