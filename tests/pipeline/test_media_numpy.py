"""Sound in NumPy files, at 32 kHz."""

import numpy as np
import pytest

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.sound import file_sound
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline()
SECONDS = 3
TONE = 0.5 * np.sin(np.arange(SECONDS * 32_000) * 2 * np.pi * 440 / 32_000)
EXPECTED = 0.5 * np.sin(np.arange(SECONDS * 16_000) * 2 * np.pi * 440 / 16_000) * 32768


@pytest.mark.parametrize(
    "stored",
    [
        TONE.astype(np.float32),
        TONE[None],
        TONE.reshape(SECONDS, 32_000),
        np.rint(TONE * 32768).astype(np.int16),
    ],
)
def test_samples_are_heard_at_32_khz(tmp_path, stored):
    np.save(tmp_path / "-a.npy", stored)
    sound = file_sound(tmp_path / "-a.npy", CLOCK, SECONDS)
    assert sound.mask.all()
    inner = slice(100, -100)  # the resampler's edges
    assert np.abs(sound.samples.reshape(-1)[inner] - EXPECTED[inner]).max() < 40
    assert sound.backend.startswith("numpy")


def test_the_length_of_the_file_decides_nothing(tmp_path):
    np.save(tmp_path / "a.npy", TONE[: 32_000 * 2])
    sound = file_sound(tmp_path / "a.npy", CLOCK, 4)
    assert sound.mask.tolist() == [True, True, False, False]
    assert not sound.samples[2:, 200:].any()  # but for the ringing of the resampler
    np.save(tmp_path / "b.npy", np.concatenate([TONE, TONE]))
    assert file_sound(tmp_path / "b.npy", CLOCK, 2).mask.tolist() == [True, True]


def test_values_beyond_full_scale_and_nan_do_no_harm(tmp_path):
    wave = np.zeros(32_000, np.float32)
    wave[1000:2000], wave[3000] = 5.0, np.nan
    np.save(tmp_path / "a.npy", wave)
    sound = file_sound(tmp_path / "a.npy", CLOCK, 1)
    assert sound.samples.max() == 32767
    assert sound.samples.min() > -20000


@pytest.mark.parametrize("kind", ["objects", "cut", "complex", "empty", "other"])
def test_what_is_no_sound_is_refused(tmp_path, kind):
    path = tmp_path / "a.npy"
    if kind == "objects":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "other":
        path.write_bytes(b"\x00\x01\x02 no array")
    else:
        np.save(path, {"complex": TONE * 1j, "empty": TONE[:0], "cut": TONE}[kind])
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputRejected, match=r"a\.npy: "):
        file_sound(path, CLOCK, SECONDS)
