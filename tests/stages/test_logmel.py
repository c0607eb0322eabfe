"""The log-mel front end against a plain numpy computation, and against what a tone must look like."""

import numpy as np
import torch

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, front_ends

FACTS = facts_of(BackboneChoice("audio", "test_vit"), Timeline())
FRONT_END = front_ends.build(FACTS)


def _numpy_logmel(samples):
    """The same spectrogram, frame by frame and filter by filter."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    hertz = np.arange(257) * 16000 / 512
    top = 2595 * np.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 130) / 2595) - 1)
    picture = np.zeros((128, 96))
    for frame in range(96):
        piece = np.zeros(512)
        piece[:400] = samples[frame * 160 : frame * 160 + 400] / 32768 * window
        power = np.abs(np.fft.rfft(piece)) ** 2
        for band in range(128):
            low, centre, high = edges[band : band + 3]
            weights = np.maximum(0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)))
            picture[band, frame] = weights @ power
    return (np.log(np.maximum(picture, 1e-6)) + 6) / 4


def test_equals_the_plain_computation():
    samples = np.random.default_rng(0).integers(-8000, 8000, 16000).astype(np.int16)
    found = FRONT_END(torch.from_numpy(samples)[None])[0, 0].numpy()
    assert found.shape == FACTS.input_size == (128, 96)
    np.testing.assert_allclose(found, _numpy_logmel(samples), atol=2e-4)


def test_a_higher_tone_lies_in_a_higher_band():
    time = np.arange(16000) / 16000
    bands = []
    for hertz in (300, 1000, 4000):
        tone = (10000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
        bands.append(int(FRONT_END(torch.from_numpy(tone)[None])[0, 0].mean(1).argmax()))
    assert bands == sorted(set(bands))
    assert abs(bands[1] - 45) <= 2  # 1 kHz is 1000 mel of 2840, so band 45 of 128


def test_silence_is_finite():
    silence = FRONT_END(torch.zeros(1, 16000, dtype=torch.int16))
    assert torch.isfinite(silence).all()
