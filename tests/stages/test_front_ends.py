"""Front ends of sound against the code of others: transformers, kaldi-native-fbank."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor, ClapFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones import BackboneFacts, front_ends
from avpipe.stages.backbones.front_ends import SPECS
from avpipe.stages.backbones.front_ends.decibel import Decibel
from avpipe.stages.backbones.front_ends.fbank import Fbank

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")

ONE_ULP = 8e-6
"""Of float32 at 100 dB: what is left where both sides compute in float64."""


def _sound(rate, seconds):
    """Noise that decays every half second, under a rising tone, over an offset: loud and quiet bands side by side."""
    time = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time)) * 3000 * np.exp(-12 * (time % 0.5))
    tone = 9000 * np.sin(2 * np.pi * (200 + 900 * time) * time)
    return (noise + tone + 40).astype(np.int16)


def _run(name, samples, module=Fbank, **changes):
    return module(replace(SPECS[name], **changes))(torch.from_numpy(samples)[None])[0].numpy()


def _fbank(samples, bands, hop):
    """Log filter banks by transformers' spectrogram with Kaldi's numbers: float64 [frames, bands]."""
    filters = mel_filter_bank(
        257, bands, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return spectrogram(
        samples / 32768,
        window_function(400, "hann", periodic=False),
        frame_length=400,
        hop_length=hop,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=2.0**-23,
        remove_dc_offset=True,
    ).T


@pytest.mark.parametrize("name", ["ast", "audiomae"])
def test_ast_and_audiomae_equal_transformers_extractor(name):
    samples = _sound(16_000, 3)
    expected = ASTFeatureExtractor()(samples / 32768, sampling_rate=16_000, return_tensors="np")["input_values"][0]
    found = _run(name, samples)[0]
    assert found.shape == ((128, 1024) if name == "ast" else (1024, 128))
    assert expected.shape == (1024, 128)
    np.testing.assert_allclose(found.T if name == "ast" else found, expected, atol=1e-6)
    padded = (0 + 4.2677393) / (2 * 4.5689974)
    np.testing.assert_allclose(expected[298:], padded, atol=1e-6)  # 3 s are 298 frames


def test_lavish_has_time_along_rows_and_pads_after_scaling():
    samples = _sound(16_000, 1)
    found = _run("lavish", samples)
    assert found.shape == (3, 192, 192)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
    expected = (_fbank(samples, 192, int(16_000 * 5.2e-3)) + 4.984795570373535) / (2 * 3.7079780101776123)
    assert expected.shape == (188, 192)
    np.testing.assert_allclose(found[0, :188], expected, atol=1e-6)
    assert (found[0, 188:] == 0).all()


@pytest.mark.parametrize("milliseconds", [10, 5.2])
def test_fbank_equals_kaldi_native_fbank(milliseconds):
    """With 64 bands: it refuses 128, of which one holds no bin. It computes in float32, hence the tolerance."""
    knf = pytest.importorskip("kaldi_native_fbank")
    samples = np.random.default_rng(1).integers(-8000, 8000, 16_000).astype(np.int16)
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16_000
    options.frame_opts.window_type = "hanning"
    options.frame_opts.frame_shift_ms = milliseconds
    options.mel_opts.num_bins = 64
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16_000, (samples / 32768).astype(np.float32))
    fbank.input_finished()
    expected = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])
    raw = {"mels": 64, "hop": int(16 * milliseconds), "frames": len(expected), "mean": 0.0, "std": 0.5}
    np.testing.assert_allclose(_run("audiomae", samples, **raw)[0], expected, atol=2e-4)


@pytest.mark.parametrize(("name", "truncation"), [("clap", "rand_trunc"), ("clap_fused", "fusion")])
def test_clap_equals_transformers_extractor(name, truncation):
    """With the numbers that the two LAION checkpoints state in their `preprocessor_config.json`."""
    extractor = ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, hop_length=480, max_length_s=2, truncation=truncation
    )
    samples = _sound(48_000, 2)
    expected = extractor(samples / 32768, sampling_rate=48_000, return_tensors="np")["input_features"][0]
    found = _run(name, samples, Decibel)
    assert found.shape == (1, 201, 64)
    np.testing.assert_allclose(found, expected[:1], atol=ONE_ULP)


def test_htsat_equals_a_spectrogram_with_the_published_numbers():
    samples = _sound(32_000, 2)
    filters = mel_filter_bank(513, 64, 50, 14_000, 32_000, norm="slaney", mel_scale="slaney")
    expected = spectrogram(
        samples / 32768, window_function(1024, "hann"), 1024, 320, power=2.0, mel_filters=filters, log_mel="dB"
    ).T
    found = _run("htsat", samples, Decibel)
    assert found.shape == (1, 201, 64)
    np.testing.assert_allclose(found[0], expected, atol=ONE_ULP)


@pytest.mark.parametrize(("name", "module"), [("ast", Fbank), ("htsat", Decibel)])
def test_a_batch_is_its_clips_one_by_one(name, module):
    rng = np.random.default_rng(2)
    batch = rng.integers(-9000, 9000, (9, 8000)).astype(np.int16)  # more than are computed at once
    batch[3] = 0
    front = module(SPECS[name])
    together = front(torch.from_numpy(batch))
    assert torch.isfinite(together).all()
    for clip, picture in zip(batch, together, strict=True):
        torch.testing.assert_close(front(torch.from_numpy(clip)[None])[0], picture, rtol=0, atol=ONE_ULP)


def _facts(name, size, window=None):
    preprocess = {"front_end": front_ends.spec(name)} | ({"window": window} if window else {})
    return BackboneFacts("any", "any", "audio", (), 0, size, preprocess)


@pytest.mark.parametrize(("kind", "repeats"), [("segment", True), ("clip", False)])
def test_windows_are_filled_before_the_picture_is_made(kind, repeats):
    samples = _sound(32_000, 1)
    front = front_ends.build(_facts("htsat", (1001, 64), {"kind": kind, "samples": 96_000}))
    found = front(torch.from_numpy(samples)[None])
    filled = np.tile(samples, 3) if repeats else np.pad(samples, (0, 64_000))
    expected = front_ends.build(_facts("htsat", (1001, 64)))(torch.from_numpy(filled)[None])
    assert found.shape == (1, 1, 301, 64)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_float32_front_end_would_lose_quiet_bands():
    """Why the new front ends compute in float64: beside a loud tone, float32 errs by more than what is asked for."""
    time = np.arange(32_000) / 32_000
    samples = (20_000 * np.sin(2 * np.pi * 1000.5 * time) * np.exp(-5 * time)).astype(np.int16)
    exact = _run("htsat", samples, Decibel)
    spec = SPECS["htsat"]
    filters = Decibel(spec).filters.float()
    spectrum = torch.stft(
        torch.from_numpy(samples)[None] / 32768, 1024, 320, window=torch.hann_window(1024), return_complex=True
    )
    single = 10 * (filters @ spectrum.abs().square()).clamp(min=spec.floor).log10()[0].T.numpy()
    assert np.abs(single - exact[0]).max() > 100 * ONE_ULP


def test_specs_survive_a_cache():
    """A cache keeps them as JSON; reading gives the same numbers."""
    for name in front_ends.NAMES:
        assert front_ends.read(json.loads(json.dumps(front_ends.spec(name)))) == SPECS[name]


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="unknown audio front end 'audiomea': did you mean 'audiomae'"):
        front_ends.spec("audiomea")


def test_specs_import_no_torch():
    code = (
        "import sys; from avpipe.stages.backbones import front_ends; front_ends.spec('ast')\n"
        "assert not {'torch', 'timm', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
