"""The report's spectrograms: a tone lies where it is, with every front end."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, front_ends
from avpipe.stages.report import media

HERTZ = 2000


def _mel(hertz, scale):
    """A frequency on a mel scale; Kaldi's is HTK's but for a factor."""
    if scale == "slaney":
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)
    return 2595 * np.log10(1 + hertz / 700)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("test_vit", "logmel"),
        ("test_vit", "lavish"),
        ("test_vit", "ast"),
        ("test_vit", "audiomae"),
        ("htsat", "htsat"),
        ("clap_htsat_unfused", "clap"),
        ("clap_htsat_fused", "clap_fused"),
    ],
)
def test_a_tone_lies_where_it_is(model, name):
    facts = facts_of(BackboneChoice("audio", model, "random:0", front_end=name), Timeline())
    spec = front_ends.SPECS[name]
    seconds = np.arange(facts.sample_rate) / facts.sample_rate
    tone = (np.sin(2 * np.pi * HERTZ * seconds) * 32767).astype(np.int16)
    tone[: len(tone) // 2] = 0
    found = media.spectrograms(np.stack([0 * tone, tone]), facts.fields())
    silent, sounding = (np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found)
    assert (silent == 0).all()
    columns = sounding.shape[1]
    assert sounding[:, : columns * 4 // 10].max() == 0  # time runs along the columns
    bands = sounding[:, columns * 6 // 10 : columns * 9 // 10].mean(axis=1)[::-1]
    low, high, here = (_mel(hertz, getattr(spec, "mel_scale", "htk")) for hertz in (spec.low_hz, spec.high_hz, HERTZ))
    assert abs(bands.argmax() - (here - low) / (high - low) * len(bands)) < 2  # low frequencies at the bottom
    assert 200 < bands.max() <= 255
