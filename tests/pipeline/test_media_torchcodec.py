"""The torchcodec reader: against a stand-in that errs on purpose, and against the real one where it is installed."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
from flash import Kind, make

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline(segment_seconds=0.1)
SEGMENTS = 20
needs_torchcodec = pytest.mark.skipif(find_spec("torchcodec") is None, reason="torchcodec is not installed")


def spec(decoder: str, size: tuple[int, int] = (64, 96)) -> MediaSpec:
    return MediaSpec(CLOCK, size, audio=False, decoder=decoder)


class StandIn:
    """What the reader uses of `torchcodec.decoders.VideoDecoder`, by PyAV. `fault` is what goes wrong."""

    fault = ""

    def __init__(self, source, **options) -> None:
        assert options.pop("seek_mode") == "exact"
        assert options.pop("num_ffmpeg_threads") == 1
        assert options.pop("dimension_order") == "NHWC"
        with av.open(source) as container:
            frames = list(container.decode(container.streams[options.pop("stream_index")]))
        assert not options
        self.frames = frames[:-1] if self.fault == "short" else frames
        self.asked = -1

    def __len__(self) -> int:
        return len(self.frames)

    def get_frame_at(self, index: int) -> SimpleNamespace:
        assert index > self.asked, "backwards"
        self.asked = index
        if self.fault == "raises":
            raise RuntimeError("decode, /a/b.cpp:12, Could not push packet\nmore")
        if self.fault == "complains":
            os.write(2, b"[h264 @ 0x55aa] error while decoding MB 1 2\n")
        frame = self.frames[index + (self.fault == "late")]
        data = SimpleNamespace(numpy=lambda: frame.to_ndarray(format="rgb24"))
        return SimpleNamespace(pts_seconds=float(frame.time), data=data)


@pytest.fixture
def stand_in(monkeypatch):
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    package.__version__, package.ffmpeg_major_version = "0.0", 7
    decoders.VideoDecoder = type("Decoder", (StandIn,), {})
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    return package, decoders.VideoDecoder


KINDS = {
    "29.97.mp4": Kind(fps=Fraction(30_000, 1001)),
    "variable.mkv": Kind(steps=(20, 40, 70, 30)),
    "edit-list.mp4": Kind(both_at=-0.44),
    "open-gop.mp4": Kind(options={"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "late.mkv": Kind(cut_video=0.32),
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_pyav(tmp_path, stand_in, name):
    clip = Clip("a", SEGMENTS, video=make(tmp_path / name, KINDS[name]))
    theirs, ours = decode_clip(clip, spec("pyav")), decode_clip(clip, spec("torchcodec"))
    assert ours.provenance["frames"] == "torchcodec 0.0 (FFmpeg 7)"
    assert np.array_equal(theirs.frames, ours.frames)
    assert theirs.masks["visual"].tolist() == ours.masks["visual"].tolist()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("short", "torchcodec counts 49 frames, the container has 50"),
        ("late", "gives the frame at 0.080 s for the one at 0.040 s"),
        ("raises", "torchcodec fails (Could not push packet)"),
        ("complains", "torchcodec's FFmpeg complains (h264: error while decoding MB 1 2)"),
    ],
)
def test_where_it_cannot_vouch_pyav_is_asked(tmp_path, stand_in, fault, words, capfd):
    stand_in[1].fault = fault
    clip = Clip("a", SEGMENTS, video=make(tmp_path / "a.mp4", Kind()))
    found = decode_clip(clip, spec("torchcodec"))
    assert found.provenance["frames"].startswith("pyav")
    assert words in found.provenance["frames_note"]
    assert capfd.readouterr().err == ""


def test_what_it_lacks_is_said(tmp_path, stand_in, monkeypatch):
    clip = Clip("a", 1, video=make(tmp_path / "a.mp4", Kind()))
    stand_in[0].ffmpeg_major_version = None
    with pytest.raises(EnvironmentLacking, match=r"torchcodec 0.0 finds no FFmpeg .*apt-get install ffmpeg"):
        decode_clip(clip, spec("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(EnvironmentLacking, match=r"torchcodec.*cannot be imported.*pip install 'avpipe\[torchcodec\]'"):
        decode_clip(clip, spec("torchcodec"))


@needs_torchcodec
@pytest.mark.parametrize("name", KINDS)
def test_the_real_one_gives_the_same_frames(tmp_path, name):
    clip = Clip("a", SEGMENTS, video=make(tmp_path / name, KINDS[name]))
    theirs, ours = decode_clip(clip, spec("pyav")), decode_clip(clip, spec("torchcodec"))
    # It seeks to the key frame of each group, and in an open one its FFmpeg misses what the first pictures refer to.
    assert ours.provenance["frames"].startswith("pyav" if name == "open-gop.mp4" else "torchcodec"), ours.provenance
    assert np.abs(theirs.frames.astype(int) - ours.frames).mean() < 1


@pytest.mark.parametrize("decoder", ["decord", "pyav", pytest.param("torchcodec", marks=needs_torchcodec)])
def test_the_same_pixels_in_any_process(tmp_path, decoder):
    clip = Clip("a", SEGMENTS, video=make(tmp_path / "a.mp4", Kind(degrees=90)))
    here = decode_clip(clip, spec(decoder, (24, 40)))
    assert here.provenance["frames"].startswith(decoder)
    with DecodePool(spec(decoder, (24, 40)), workers=2) as pool:
        for there in [pool.submit(clip) for _ in range(3)]:
            assert np.array_equal(there.result(100).frames, here.frames)
