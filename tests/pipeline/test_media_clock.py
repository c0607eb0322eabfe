"""Time alignment on clips made here: every frame carries its number, every half second a beep begins."""

import math
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from flash import Kind
from flash import make as make_flash

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.sound import file_sound
from avpipe.pipeline.timeline import Timeline

HEIGHT, WIDTH, BITS = 64, 96, 8
RATE = 44_100
CLOCK = Timeline(segment_seconds=0.25, frame_position=0.5)
SEGMENTS = 12


def numbered(number):
    """A picture whose eight upright stripes are the bits of `number`."""
    bits = [235 if (number >> bit) & 1 else 16 for bit in range(BITS)]
    return np.repeat(np.repeat(np.uint8(bits), WIDTH // BITS)[None, :, None], HEIGHT, 0).repeat(3, 2)


def number_of(picture):
    stripe = WIDTH // BITS
    return sum(int(picture[HEIGHT // 2, bit * stripe + stripe // 2].mean() > 120) << bit for bit in range(BITS))


def beeps(seconds):
    """A beep of 0.1 s from every half second on: 0.5, 1.0, ..."""
    time = np.arange(int(seconds * RATE)) / RATE
    return np.where((time % 0.5 < 0.1) & (time >= 0.5), 0.5 * np.sin(2 * np.pi * 1000 * time), 0).astype(np.float32)


def make(
    path, *, fps=Fraction(25), seconds=3, video_at=0.0, audio_at=0.0, codec="libx264", options=None, skip=(), ticks=1
):
    """Encodes a clip; `video_at` and `audio_at` move a stream, by as many `ticks` to a frame as the clock has; `skip`
    leaves out stretches (begin, end) of audio."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options=options or {"g": "25", "bf": "2"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = 1 / (fps * ticks)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = number * ticks + round(video_at * fps * ticks), 1 / (fps * ticks)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        wave = beeps(seconds)
        for begin in range(0, len(wave) - 1023, 1024):
            if any(low <= begin / RATE < high for low, high in skip):
                continue
            frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, begin + round(audio_at * RATE), Fraction(1, RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


def onsets(samples, rate=CLOCK.sample_rate):
    loud = np.flatnonzero(np.abs(samples.reshape(-1).astype(np.int32)) > 4000)
    return [
        int(here) / rate for before, here in zip([-rate, *loud[:-1]], loud, strict=True) if here - before > rate * 0.2
    ]


def decoded(path, decoder="decord", segments=SEGMENTS, clock=CLOCK):
    spec = MediaSpec(clock, (HEIGHT, WIDTH), audio=True, decoder=decoder)
    return decode_clip(Clip("clip", segments, video=path), spec)


CLIPS = {
    "25.mp4": {},
    "29.97.mp4": {"fps": Fraction(30_000, 1001)},
    "60.mp4": {"fps": Fraction(60)},
    "25.mkv": {},
    "29.97.mkv": {"fps": Fraction(30_000, 1001)},
    "late-audio.mp4": {"audio_at": 0.7},
    "late-audio.mkv": {"audio_at": 0.7},
    "late-video.mp4": {"video_at": 0.6},
    "negative-start.mp4": {"video_at": -0.44, "audio_at": -0.44},
    "open-gop.mp4": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}},
    "b-frames.mov": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "transport.ts": {},
    "25.flv": {},
}


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("name", CLIPS)
def test_frame_and_sound_of_the_same_instant(tmp_path, name, decoder):
    made = {"video_at": 0.0, "audio_at": 0.0, "fps": Fraction(25), **CLIPS[name]}
    clip = decoded(make(tmp_path / name, **CLIPS[name]), decoder)
    # These two cannot start before zero, so everything is moved, and second 0 is the start of the sound's priming.
    shift = 1024 / RATE if name.endswith((".ts", ".flv")) else 0.0
    for segment, picture in enumerate(clip.frames):
        number = (CLOCK.frame_time(segment) - shift - made["video_at"]) * made["fps"]
        if 0 <= number < 3 * made["fps"]:
            assert number_of(picture) == math.floor(number), segment
            assert clip.masks["visual"][segment]
    believed = decoder if name not in ("negative-start.mp4", "transport.ts") else "pyav"
    assert clip.provenance["frames"].startswith(believed)
    end = SEGMENTS * CLOCK.segment_seconds - 0.05
    expected = [k / 2 + made["audio_at"] + shift for k in range(1, 6) if k / 2 + made["audio_at"] < end]
    assert onsets(clip.samples) == pytest.approx(expected, abs=0.008)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_every_frame_is_found_by_its_time(tmp_path, decoder):
    path = make(tmp_path / "open-gop.mp4", **CLIPS["open-gop.mp4"])
    for position in (0.0, 0.5):
        clock = Timeline(segment_seconds=0.04, frame_position=position)
        clip = decoded(path, decoder, 75, clock)
        assert [number_of(picture) for picture in clip.frames] == list(range(75))


def test_decord_is_not_believed_where_an_edit_list_hides_frames(tmp_path):
    clip = decoded(make(tmp_path / "cut.mp4", **CLIPS["negative-start.mp4"]))
    assert clip.provenance["frames"].startswith("pyav")
    assert "starts at -0.440 s" in clip.provenance["frames_note"]


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(("fps", "cut"), [(12, 0.02), (12, 0.34), (12, 1.09), (25, 0.01), (25, 0.33), (25, 1.05)])
def test_an_edit_list_that_begins_between_two_frames_moves_none(tmp_path, fps, cut, suffix):
    """FFmpeg leaves out the picture that is shown as the edit begins, and shows the next one up to a frame early."""
    path = make(tmp_path / f"cut.{suffix}", fps=Fraction(fps), video_at=-cut, audio_at=-cut, ticks=100)
    clock = Timeline(segment_seconds=0.01)
    for decoder in ("decord", "pyav"):
        found = decoded(path, decoder, 150, clock)
        numbers = [number_of(picture) for picture in found.frames]
        assert numbers == [math.floor((clock.frame_time(segment) + cut) * fps) for segment in range(150)]
        assert found.masks["visual"].all()
        assert found.provenance["frames"].startswith("pyav")
    assert onsets(found.samples)[-1] % 0.5 == pytest.approx(-cut % 0.5, abs=0.008)


def edited(path, entries):
    """The video's edit list with other entries: (length in milliseconds, begin in the media's ticks, -1 for none)."""
    data, place = bytearray(path.read_bytes()), path.read_bytes().index(b"elst")
    size, now = int.from_bytes(data[place - 4 : place]), 16 + 12 * len(entries)
    listed = b"".join(length.to_bytes(4) + media.to_bytes(4, signed=True) + b"\0\1\0\0" for length, media in entries)
    data[place - 4 : place - 4 + size] = now.to_bytes(4) + b"elst" + bytes(4) + len(entries).to_bytes(4) + listed
    for name in (b"edts", b"trak", b"moov"):  # moov lies behind the media, so that nothing else moves
        start = data.rindex(name, 0, place) - 4
        data[start : start + 4] = (int.from_bytes(data[start : start + 4]) + now - size).to_bytes(4)
    path.write_bytes(data)
    return path


def test_an_edit_list_between_frames_may_begin_late_and_end_early(tmp_path):
    path = make(tmp_path / "a.mp4", options={"g": "25", "bf": "0"})
    with av.open(str(path)) as container:
        tick = int(1 / container.streams.video[0].time_base)
    found = decoded(edited(path, [(500, -1), (1500, round(0.35 * tick))]), "pyav", 12)  # at 0.5 s: what is at 0.35 s
    times = [CLOCK.frame_time(segment) for segment in range(12)]
    assert found.masks["visual"].tolist() == [0.46 <= time <= 2.05 for time in times]
    inside = [math.floor((min(max(time, 0.5), 1.99) - 0.15) * 25 + 1e-6) for time in times]
    assert [number_of(picture) for picture in found.frames] == inside


def test_an_edit_list_that_joins_parts_between_frames_is_refused(tmp_path):
    path = make(tmp_path / "a.mp4", options={"g": "25", "bf": "0"})
    with av.open(str(path)) as container:
        tick = int(1 / container.streams.video[0].time_base)
    on_grid = make(tmp_path / "b.mp4", options={"g": "25", "bf": "0"})
    assert decoded(edited(on_grid, [(800, 0), (800, tick)]), "pyav", 4).masks["visual"].all()
    with pytest.raises(InputRejected, match="its edit list joins 2 parts, and cuts between two frames"):
        decoded(edited(path, [(800, 0), (800, round(1.01 * tick))]), "pyav", 4)


def test_decord_is_not_believed_where_a_packet_gives_no_frame(tmp_path):
    """QuickTime animation writes an empty packet for a frame like the last one; decord counts it and shows the next."""
    kind = Kind(video="qtrle", pixels="argb", options={})
    found = decoded(make_flash(tmp_path / "a.mov", kind), segments=4)
    assert found.provenance["frames"].startswith("pyav")
    assert "decord fails while decoding" in found.provenance["frames_note"]


def test_outside_the_video_the_nearest_frame_stands_in(tmp_path):
    path = make(tmp_path / "late.mp4", video_at=0.6, seconds=2)
    for decoder in ("decord", "pyav"):
        clip = decoded(path, decoder, 16)  # 4 s; the video covers 0.6 to 2.6
        times = np.array([CLOCK.frame_time(segment) for segment in range(16)])
        assert clip.masks["visual"].tolist() == ((times >= 0.56) & (times <= 2.64)).tolist()
        assert number_of(clip.frames[0]) == 0
        assert number_of(clip.frames[-1]) == 49
        assert clip.masks["audio"].tolist() == [True] * 8 + [False] * 8


def test_late_audio_is_silence_at_first(tmp_path):
    clip = decoded(make(tmp_path / "late.mp4", audio_at=0.7))
    assert clip.masks["audio"][:4].tolist() == [False, False, False, True]  # 0.75 to 1.0 is the first that is filled
    assert not clip.samples[:2].any()


def test_no_drift_where_a_segment_is_no_whole_number_of_samples(tmp_path):
    """A third of a second at 16 kHz: 5333 and a third. By rounding alone 5 minutes would drift by 19 ms."""
    wave = np.zeros(300 * 16_000, np.int16)
    clicks = [round(at * 16_000 / 3) + 100 for at in range(0, 900, 50)]
    wave[clicks] = 20_000
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    samples = file_sound(tmp_path / "a.wav", Timeline(segment_seconds=1 / 3), 900).samples
    assert samples.shape == (900, 5333)
    assert [int(row.argmax()) for row in samples[::50]] == pytest.approx([100] * 18, abs=1)


def test_a_clock_that_jumps_in_a_transport_stream_is_refused(tmp_path):
    """In a file of another kind a picture that stands still for minutes is one."""
    for name in ("a.ts", "a.mkv"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(50):
                frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
                frame.pts, frame.time_base = number + (number >= 25) * 2500, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    spec = MediaSpec(Timeline(segment_seconds=10.0), (HEIGHT, WIDTH), audio=False)
    with pytest.raises(InputRejected, match=r"time stamps jump from \d\.\d\d s to 10\d\.\d\d s"):
        decode_clip(Clip("a", 12, video=tmp_path / "a.ts"), spec)
    assert number_of(decode_clip(Clip("a", 12, video=tmp_path / "a.mkv"), spec).frames[5]) == 24


def test_a_gap_in_the_sound_stays_a_gap(tmp_path):
    clip = decoded(make(tmp_path / "gap.mkv", skip=[(1.0, 1.05)]))
    later = [time for time in onsets(clip.samples) if time > 1.4]
    assert later == pytest.approx([1.5, 2.0, 2.5], abs=0.008)


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (270, (0, 1))])
def test_rotation_is_applied_by_every_backend(tmp_path, degrees, corner):
    picture = np.full((HEIGHT, WIDTH, 3), 16, np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = 235  # bright top left
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.set_display_rotation(degrees)
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
    seen = {}
    for decoder in ("decord", "pyav"):
        spec = MediaSpec(Timeline(segment_seconds=0.4), (32, 32), audio=False, decoder=decoder)
        seen[decoder] = decode_clip(Clip("turned", 1, video=path), spec).frames[0].mean(-1)
    row, column = corner
    for image in seen.values():
        quarters = image.reshape(2, 16, 2, 16).mean((1, 3))
        assert np.unravel_index(quarters.argmax(), (2, 2)) == (row, column)


def test_a_picture_too_narrow_for_decord_is_read_by_the_second_backend(tmp_path):
    path = tmp_path / "narrow.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 48, 36, "yuv420p"
        for shade in (40, 120, 200):
            frame = av.VideoFrame.from_ndarray(np.full((36, 48, 3), shade, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    clock = Timeline(segment_seconds=0.2)
    found = decode_clip(Clip("clip", 3, video=path), MediaSpec(clock, (36, 48), audio=False))
    assert found.frames.shape == (3, 36, 48, 3)
    assert np.abs(found.frames.mean((1, 2, 3)) - [40, 120, 200]).max() < 5
    assert "4 channels" in found.provenance["frames_note"]
