"""Odd files, made here: each gives pictures and sound that are right, or one clear reason."""

from __future__ import annotations

import os
import shutil
import socket
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from flash import Kind, beep_times, flash_times, make
from PIL import Image

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline(segment_seconds=0.02)
SEGMENTS = 100
FAST = {"deadline": "realtime", "cpu-used": "8"}
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof+delay_moov"

RIGHT: dict[str, tuple[Kind, dict[str, str]]] = {
    "fragments.mp4": (Kind(), {"movflags": FRAGMENTS}),
    "negative-offsets.mp4": (Kind(), {"movflags": "negative_cts_offsets"}),
    "live.mkv": (Kind(), {"live": "1"}),
    "live.webm": (Kind(video="libvpx", audio="libopus", options=FAST), {"live": "1"}),
    "444.mp4": (Kind(pixels="yuv444p"), {}),
    "10-bit.mp4": (Kind(pixels="yuv420p10le"), {}),
    "grey.mp4": (Kind(pixels="gray"), {}),
    "alpha.webm": (Kind(video="libvpx-vp9", audio="libopus", pixels="yuva420p", options=FAST), {}),
    "argb.mov": (Kind(video="qtrle", pixels="argb", options={}), {}),
    "png.mov": (Kind(video="png", pixels="rgb24", options={}), {}),
    "ffv1.mkv": (Kind(video="ffv1", audio="flac", options={}), {}),
    "interlaced.mp4": (Kind(options={"flags": "+ilme+ildct", "x264-params": "tff=1"}), {}),
    "stereo.mp4": (Kind(layout="stereo"), {}),
    "5.1.mp4": (Kind(layout="5.1"), {}),
    "7.1.mp4": (Kind(layout="7.1"), {}),
}


def spec(decoder: str = "decord", *, audio: bool = False, clock: Timeline = CLOCK) -> MediaSpec:
    return MediaSpec(clock, (16, 16), audio=audio, decoder=decoder)


@pytest.mark.parametrize("name", RIGHT)
def test_flash_and_beep_are_where_they_should_be(tmp_path, name):
    kind, options = RIGHT[name]
    path = make(tmp_path / name, kind, **options)
    found = decode_clip(Clip("a", SEGMENTS, video=path), spec(audio=True))
    assert flash_times(found.frames, CLOCK.segment_seconds) == pytest.approx(kind.events(), abs=0.01)
    assert beep_times(found.samples, CLOCK.sample_rate) == pytest.approx(kind.events(), abs=0.01)
    assert found.masks["visual"].all()
    assert found.masks["audio"][:-2].all()


def shades(path: Path, segments: int, seconds: float = 0.1) -> tuple[list[int], list[bool]]:
    """Brightness of the picture of each segment, and the mask."""
    found = decode_clip(Clip("a", segments, video=path), spec(clock=Timeline(segment_seconds=seconds)))
    return found.frames.mean((1, 2, 3)).round().astype(int).tolist(), found.masks["visual"].tolist()


@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.png"])
def test_animated_pictures_are_videos(tmp_path, name):
    pictures = [Image.new("L", (20, 18), shade) for shade in (10, 100, 200)]
    kind = "GIF" if name == "a.gif" else "PNG"
    pictures[0].save(tmp_path / name, kind, save_all=True, append_images=pictures[1:], duration=200)
    assert shades(tmp_path / name, 9) == ([10, 10, 100, 100, 200, 200, 200, 200, 200], [True] * 8 + [False])


def test_one_frame_stands_in_for_what_follows_it(tmp_path):
    with av.open(str(tmp_path / "one.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 150, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    assert shades(tmp_path / "one.mp4", 4) == ([150] * 4, [True, True, False, False])


@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (33, 17), (4096, 16)])
def test_sizes_of_all_kinds(tmp_path, sizes):
    width, height = sizes
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for shade in (40, 200):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert shades(tmp_path / "a.mov", 2)[0] == [40, 200]


def test_a_size_that_changes_on_the_way(tmp_path):
    """Two encoders one after the other, as where a broadcast changes its format."""
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, (width, height, shade) in enumerate(((64, 48, 40), (128, 96, 200))):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.framerate, encoder.time_base, encoder.options = 10, Fraction(1, 10), {"bf": "0"}
            picture = np.full((height, width, 3), shade, np.uint8)
            packets = []
            for n in range(5):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number * 5 + n
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode():
                packet.stream, packet.time_base = stream, Fraction(1, 10)
                container.mux(packet)
    assert shades(tmp_path / "a.ts", 10)[0] == pytest.approx([40] * 5 + [200] * 5, abs=3)


def test_of_several_video_tracks_one_is_taken_throughout(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stream, shade in zip(streams, (40, 200), strict=True):
            for _ in range(10):
                picture = np.full((48, 64, 3), shade, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    seen = {
        decoder: decode_clip(
            Clip("a", 10, video=tmp_path / "a.mp4"), spec(decoder, clock=Timeline(segment_seconds=0.1))
        )
        for decoder in ("decord", "pyav")
    }
    assert len(np.unique(seen["pyav"].frames.mean((1, 2, 3)).round())) == 1
    assert np.array_equal(seen["pyav"].frames, seen["decord"].frames)


@pytest.mark.parametrize(("video", "audio"), [(40, 100), (100, 40)])
def test_the_mask_says_where_one_of_the_two_has_ended(tmp_path, video, audio):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        pictures, sound = container.add_stream("libx264", rate=50), container.add_stream("pcm_s16le", rate=16_000)
        sound.layout = "mono"
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        for _ in range(video):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        wave = np.full((1, 320 * audio), 9000, np.int16)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux([*sound.encode(frame), *sound.encode()])
    found = decode_clip(Clip("a", SEGMENTS, video=tmp_path / "a.mkv"), spec(audio=True))
    assert found.masks["audio"].tolist() == [True] * audio + [False] * (100 - audio)
    # one frame more than there is: rounding of time stamps must not cost the last one
    assert found.masks["visual"].tolist() == [True] * min(100, video + 1) + [False] * (99 - video)
    assert np.unique(found.frames.round(-1)).tolist() == [90]


def test_a_rate_that_changes_on_the_way_is_said(tmp_path):
    whole = b""
    for rate in (44_100, 22_050):
        with av.open(str(tmp_path / "part.aac"), "w", format="adts") as container:
            track = container.add_stream("aac", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.full((1, rate), 0.1, np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            resampler = av.AudioResampler("fltp", "mono", rate, frame_size=1024)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(track.encode(part))
            container.mux(track.encode())
        whole += (tmp_path / "part.aac").read_bytes()
    (tmp_path / "a.aac").write_bytes(whole)
    with pytest.raises(InputRejected, match="the sample rate changes from 44100 to 22050 Hz"):
        decode_clip(Clip("a", 2, video=tmp_path / "a.aac"), MediaSpec(Timeline(), None, audio=True))


def without_index(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"moov") - 4])


def subtitles(path: Path) -> None:
    words = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"
    path.with_suffix(".srt").write_bytes(words)
    with av.open(str(path.with_suffix(".srt"))) as source, av.open(str(path), "w", format="matroska") as target:
        track = target.add_stream_from_template(source.streams[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)


def webp(path: Path) -> None:
    pictures = [Image.new("L", (20, 18), shade) for shade in (10, 200)]
    pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:], duration=200)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


REFUSED = {
    "no-index.mp4": (without_index, "FFmpeg cannot open it as media"),
    "subtitles.mkv": (subtitles, r"neither a video nor an audio track \(matroska,webm\) \(subtitles alone"),
    "animated.webp": (webp, "a WebP picture, not media"),
    "folder.mp4": (lambda path: (path.unlink(), path.mkdir()), "is a directory"),
    "pipe.mp4": (lambda path: (path.unlink(), os.mkfifo(path)), "no regular file but a named pipe"),
    "socket.mp4": (lambda path: (path.unlink(), listening(path)), "no regular file but a device or a socket"),
    "zeros.mp4": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "no regular file but a device"),
    "loop.mp4": (lambda path: (path.unlink(), path.symlink_to(path)), "symbolic links"),
    "dangling.mp4": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "no such file"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A plain clip."""
    return make(tmp_path_factory.mktemp("good") / "good.mp4", Kind())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_says_why(tmp_path, good, name):
    spoil, reason = REFUSED[name]
    shutil.copy(good, tmp_path / name)
    spoil(tmp_path / name)
    with pytest.raises(InputRejected, match=reason) as caught:
        decode_clip(Clip("a", 2, video=tmp_path / name), spec())
    assert caught.value.stage == "probe"
    assert str(caught.value).startswith(str(tmp_path / name))


NAMES = (
    "a b.mp4",
    'it\'s "q".mp4',
    "two\nlines.mp4",
    "%04d.mp4",
    "-i.mp4",
    "file:a.mp4",
    "concat:a|b.mp4",
    "[a]*?.mp4",
)
NAMES += ("$(ls).mp4", "ü漢.mp4", "pipe:0", "no suffix", "a.txt", "x" * 250 + ".mp4", os.fsdecode(b"\xff\xfe.mp4"))


@pytest.mark.parametrize("name", [*NAMES, "http:/host/a.mp4"], ids=ascii)
def test_a_name_is_a_name(tmp_path, good, name, monkeypatch):
    """Nothing in it is a pattern, an option, a protocol or an address; relative names too."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(good, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    right = decode_clip(Clip("a", 2, video=good), spec(audio=True))
    for path in (tmp_path / name, Path(name)):
        found = decode_clip(Clip("a", 2, video=path), spec(audio=True))
        assert np.array_equal(found.frames, right.frames)
        assert np.array_equal(found.samples, right.samples)
