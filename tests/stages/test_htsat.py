"""HTS-AT: facts, taps against plain forwards, windows, CLAP's own way from sound to tokens."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from htsat_small import SMALL, SMALL_TAPS, shrink
from transformers import ClapAudioConfig, ClapFeatureExtractor
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, load, windows
from avpipe.stages.backbones.htsat_model import TappedEncoder
from avpipe.stages.backbones.htsat_weights import load_encoder, redraw_encoder
from avpipe.stages.job_backbones import in_batches

TAPS = tuple(f"layers.{s}.blocks.{b}" for s, blocks in enumerate((2, 2, 6, 2)) for b in range(blocks))


def _small(seed=0, **options):
    encoder = ClapAudioEncoder(ClapAudioConfig(**SMALL, **options)).eval().requires_grad_(False)
    redraw_encoder(encoder, seed)
    return encoder


@pytest.fixture
def small(monkeypatch):
    """`htsat` and its kin with a sixth of the width."""
    shrink(monkeypatch)


def _pictures(count=1, seed=0):
    """Log-mel pictures [B, 1, 1001, 64] that are no noise: a tone that rises, and some hiss."""
    rng = np.random.default_rng(seed)
    levels = -60 + 6 * rng.standard_normal((count, 1, 1001, 64))
    band = (np.arange(1001) // 40)[:, None] % 60
    return torch.from_numpy(levels + 50 * (np.abs(np.arange(64) - band) < 2)).float()


def _sound(rate, seconds=1.0, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    return (8000 * np.sin(2 * np.pi * (300 + 900 * time) * time) + 300 * rng.standard_normal(len(time))).astype(
        np.int16
    )


def _load(choice, taps, seconds=1.0, **options):
    facts = facts_of(choice, Timeline(seconds))
    return facts, load(choice, facts, taps, "cpu", **options)


def _by_hand(encoder, pictures, broken=""):
    """Every block's output, step by step; `broken` leaves something out."""
    scale = encoder.batch_norm.weight / (encoder.batch_norm.running_var + encoder.batch_norm.eps).sqrt()
    level = (pictures - encoder.batch_norm.running_mean) * scale + encoder.batch_norm.bias
    level = torch.nn.functional.interpolate(level, (1024, 64), mode="bicubic", align_corners=True)
    chunks = [level[:, :, start : start + 256].transpose(2, 3) for start in range(0, 1024, 256)]
    tokens = encoder.patch_embed.proj(torch.cat(chunks, 2)).flatten(2).transpose(1, 2)
    tokens, side, found = encoder.patch_embed.norm(tokens), 64, []
    for number, stage in enumerate(encoder.layers):
        for position, block in enumerate(stage.blocks):
            if broken == "shift" and number == 1:
                block.shift_size = 0
            if broken != "block" or (number, position) != (1, 0):
                tokens = block(tokens, (side, side))[0]
            found.append(tokens)
        if number == 3:
            break
        side //= 2
        square = tokens.view(len(tokens), side, 2, side, 2, -1)
        order = (3, 2, 1, 0) if broken == "downsample" else (0, 1, 2, 3)
        corners = [square[:, :, row, :, column] for column in range(2) for row in range(2)]
        merged = torch.cat([corners[i] for i in order], -1).flatten(1, 2)
        tokens = stage.downsample.reduction(stage.downsample.norm(merged))
    return found


def _differences(found, expected):
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


@torch.inference_mode()
def test_every_tap_is_its_blocks_output_and_leaving_something_out_shows():
    pictures = _pictures()
    expected = _by_hand(_small(), pictures)
    found = TappedEncoder(_small(), SMALL_TAPS)(pictures)
    assert tuple(found) == SMALL_TAPS
    assert max(_differences(found.values(), expected)) < 1e-6
    for broken in ("block", "shift", "downsample"):
        assert _differences(_by_hand(_small(), pictures, broken), expected)[-1] > 1e-2, broken


@torch.inference_mode()
def test_stage_ends_are_those_of_the_whole_model():
    whole = _small()(_pictures(), output_hidden_states=True, output_hidden_states_before_downsampling=True)
    ends = [state.flatten(2).transpose(1, 2) for state in whole.hidden_states[1:]]
    found = TappedEncoder(_small(), SMALL_TAPS[1::2])(_pictures())
    assert max(_differences(found.values(), ends)) < 1e-6


@torch.inference_mode()
def test_nothing_runs_behind_the_last_tap():
    short = TappedEncoder(_small(), ("layers.1.blocks.0",))
    assert sum(1 for name, _ in short.named_modules() if name.endswith(".attention.self")) == 3
    assert not [name for name, _ in short.named_parameters() if "layers.2" in name or "layers.1.downsample" in name]
    every = TappedEncoder(_small(), SMALL_TAPS)(_pictures())
    assert torch.equal(short(_pictures())["layers.1.blocks.0"], every["layers.1.blocks.0"])


def test_facts_are_the_published_ones():
    facts = facts_of(BackboneChoice("audio", "htsat"), Timeline())
    assert tuple(facts.taps) == TAPS
    assert facts.stage_ends == (TAPS[1], TAPS[3], TAPS[9], TAPS[11])
    assert [facts.taps[tap] for tap in facts.stage_ends] == [(4096, 96), (1024, 192), (256, 384), (64, 768)]
    assert round(sum(2 * n * c for n, c in facts.taps.values()) / 1000) == 3736
    assert round(sum(2 * n * c for n, c in (facts.taps[tap] for tap in facts.stage_ends)) / 1000) == 1475
    clip = facts_of(BackboneChoice("audio", "htsat", window="clip"), Timeline())
    assert [clip.taps[tap][0] for tap in clip.stage_ends] == [416, 104, 24, 6]
    assert (facts.sample_rate, facts.window_segments, clip.window_segments) == (32_000, 1, 10)
    assert facts_of(BackboneChoice("audio", "clap_htsat_unfused"), Timeline()).sample_rate == 48_000


def test_the_defaults_of_every_dataset_are_the_papers_pair():
    manifests = sorted(Path(str(files("avpipe.data_manifests"))).glob("*.yaml"))
    assert len(manifests) > 5
    for path in manifests:
        defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["backbones"]
        taps = {m: facts_of(BackboneChoice.parse(m, defaults[m]), Timeline()).taps for m in ("visual", "audio")}
        assert (list(taps["visual"].values())[-1], list(taps["audio"].values())[-1]) == ((36, 1536), (64, 768)), path


def test_facts_import_no_torch():
    code = (
        "import sys; from avpipe.stages.backbones import *; from avpipe.pipeline.timeline import Timeline\n"
        "for window in ('segment', 'clip'): facts_of(BackboneChoice('audio', 'htsat', window=window), Timeline())\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", ["small", pytest.param("published", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_clap_hears_a_segment_as_its_own_feature_extractor_gives_it(size, request):
    """Every tap; and every block changes its input."""
    if size == "small":
        request.getfixturevalue("small")
    choice = BackboneChoice("audio", "clap_htsat_unfused", "random:1")
    taps, sound = tuple(facts_of(choice, Timeline()).taps), _sound(48_000)
    facts, backbone = _load(choice, taps)
    found = backbone.features(sound[None])
    assert {tap: tokens.shape[1:] for tap, tokens in found.items()} == facts.taps
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    features = extractor(sound / 32768, sampling_rate=48_000, return_tensors="pt")["input_features"].float()
    blocks, inputs = {}, {}

    def keep(block, given, output):
        inputs[names[block]], blocks[names[block]] = given[0], output[0]

    encoder = load_encoder(choice).eval()
    names = {encoder.get_submodule(tap): tap for tap in taps}
    for block in names:
        block.register_forward_hook(keep)
    encoder(features)
    tokens = [torch.from_numpy(found[tap]) for tap in taps]
    assert max(_differences(tokens, [blocks[tap] for tap in taps])) < 1e-4
    assert min(_differences(blocks.values(), inputs.values())) > 0.3
    for before, after in pairwise(taps):
        assert torch.equal(blocks[before], inputs[after]) == (before[:9] == after[:9])


@torch.inference_mode()
def test_clip_windows_give_the_tokens_of_one_pass_by_time(small):
    choice = BackboneChoice("audio", "htsat", "random:2", window="clip")
    facts, backbone = _load(choice, SMALL_TAPS)
    sound = _sound(32_000, 10.0)
    found = backbone.features(sound[None])
    assert {tap: tokens.shape for tap, tokens in found.items()} == {t: (10, *s) for t, s in facts.taps.items()}
    whole = _load(BackboneChoice("audio", "htsat", "random:2"), SMALL_TAPS, 10.0)[1].features(sound[None])
    rows = windows.rows_of(facts)
    for tap in SMALL_TAPS:
        torch.testing.assert_close(torch.from_numpy(found[tap]), rows(tap, torch.from_numpy(whole[tap])))
    columns = whole["layers.3.blocks.1"].reshape(4, 2, 8, -1)[0]  # 2 frequencies, 8 columns of 0.3125 s
    middle = (0.625 - 1 / 3) * columns[:, 1] + (2 / 3 - 0.625) * columns[:, 2]  # 1/3 to 2/3 s
    found_middle = found["layers.3.blocks.1"][0].reshape(2, 3, -1)[:, 1]
    np.testing.assert_allclose(found_middle, 3 * middle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("window", "seconds"), [("segment", 10.0), ("clip", 1.0)])
def test_a_minute_goes_through_in_windows(small, window, seconds):
    choice = BackboneChoice("audio", "htsat", "random:0", window=window)
    facts, backbone = _load(choice, ("layers.0.blocks.0",), seconds)
    segments = int(60 / seconds)
    sound = _sound(32_000, 60.0)[: round(segments * seconds * 32_000)].reshape(segments, -1)
    found = in_batches(backbone, sound, 6, facts.window_segments)["layers.0.blocks.0"]
    assert found.shape == (segments, *facts.taps["layers.0.blocks.0"])
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="less than or equal to the swin input size"), torch.inference_mode():
        _small()(torch.zeros(1, 1, 6001, 64))


@torch.inference_mode()
def test_fusion_is_not_used_for_what_fits():
    found = TappedEncoder(_small(enable_fusion=True), SMALL_TAPS[-1:])(_pictures())
    whole, encoder = {}, _small(enable_fusion=True)
    last = encoder.get_submodule(SMALL_TAPS[-1])
    last.register_forward_hook(lambda block, given, output: whole.update(tokens=output[0]))
    encoder(_pictures().expand(-1, 4, -1, -1), is_longer=torch.tensor([[False]]))
    assert _differences(found.values(), whole.values())[0] < 1e-6
    encoder(_pictures().expand(-1, 4, -1, -1), is_longer=torch.tensor([[True]]))
    assert _differences(found.values(), whole.values())[0] > 1e-2


def test_bfloat16_is_near_and_not_equal(small):
    sound = _sound(32_000)[None]
    last = SMALL_TAPS[-1:]
    plain = _load(BackboneChoice("audio", "htsat", "random:0"), last)[1].features(sound)[last[0]]
    facts, backbone = _load(BackboneChoice("audio", "htsat", "random:0", precision="bfloat16"), last)
    near = backbone.features(sound)[last[0]]
    assert (facts.precision, near.dtype) == ("bfloat16", np.float32)
    assert 1e-4 < np.linalg.norm(near - plain) / np.linalg.norm(plain) < 0.1


@pytest.mark.slow
def test_compiled_is_near_equal(small):
    sound = _sound(32_000)[None]
    choice = BackboneChoice("audio", "htsat", "random:0")
    taps = SMALL_TAPS[:3]
    plain, run = (_load(choice, taps, compiled=compiled)[1].features(sound) for compiled in (False, True))
    for tap in taps:
        np.testing.assert_allclose(run[tap], plain[tap], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (BackboneChoice("visual", "htsat"), "is an audio backbone"),
        (BackboneChoice("audio", "htsat", image_size=64), "image_size is for the visual backbone"),
        (BackboneChoice("audio", "htsat", front_end="htsta"), "did you mean 'htsat'"),
        (BackboneChoice("audio", "clap_htsat_fused", front_end="clap"), "did you mean 'clap_fused'"),
        (BackboneChoice("audio", "htsat", window="whole"), "known: clip, segment"),
        (BackboneChoice("audio", "htsat", precision="float61"), "did you mean 'float16'"),
    ],
)
def test_wrong_choices_are_named(choice, message):
    with pytest.raises(UsageError, match=message):
        facts_of(choice, Timeline())


def test_pretrained_weights_that_cannot_be_had_say_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentLacking, match=r"download HTSAT_AudioSet_Saved_1\.ckpt.* --audio-weights FILE"):
        _load(BackboneChoice("audio", "htsat"), TAPS)
    with pytest.raises(EnvironmentLacking, match=r"model.safetensors of laion/clap-htsat-fused .* FOLDER"):
        _load(BackboneChoice("audio", "clap_htsat_fused"), TAPS)
