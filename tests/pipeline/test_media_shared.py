"""Odd files of other projects: what each gives is what PyAV alone gives, or there is one clear reason."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec, decode_clip
from avpipe.pipeline.media.probe import MediaFacts, probe
from avpipe.pipeline.timeline import Timeline

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
MANIFEST = json.loads((MEDIA / "manifest.json").read_text()) if MEDIA.is_dir() else {}
CLOCK = Timeline(segment_seconds=0.2)
SEGMENTS = 4
WINDOW = SEGMENTS * CLOCK.segment_seconds
pytestmark = pytest.mark.skipif(not MANIFEST, reason="no folder of odd media beside the repository")


def straight(facts: MediaFacts, kind: str) -> tuple[list, bool]:
    """Frames of the window by PyAV alone, with their times on the clip's clock, and whether anything was odd."""
    found, odd = [], False
    edit = facts.video.edit if kind == "video" else None  # whose frames PyAV moves, unless it is told to look past it
    origin = facts.origin_seconds + (0 if edit is None else edit.media_seconds - edit.begin_seconds)
    options = {} if edit is None else {"ignore_editlist": "1"}
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said, av.open(str(facts.path), options=options) as container:
            stream = container.streams[getattr(facts, kind).index]
            stream.codec_context.thread_count = 1
            said.clear()
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    odd = True
                    continue
                for frame in frames:
                    time = float(frame.pts * frame.time_base) - origin
                    odd |= frame.is_corrupt or (bool(found) and time <= found[-1][0])
                    found.append((time, frame))
                if found and found[-1][0] > WINDOW:
                    break
            return found, odd or bool(said)
    finally:
        av.logging.set_level(None)


def outcome(name: str, spec: MediaSpec, stage: str, odd: bool) -> DecodedClip | None:
    """What avpipe makes of a file; None where it is rejected, which is right for odd ones alone."""
    try:
        return decode_clip(Clip(name, SEGMENTS, video=MEDIA / name), spec)
    except InputRejected as caught:
        error = caught
    assert odd, error
    assert error.stage == stage
    assert str(error).startswith(str(MEDIA / name))
    assert "\n" not in str(error)
    return None


def tracks(name: str) -> set[str]:
    return {stream["type"] for stream in MANIFEST[name]["streams"]}


@pytest.mark.parametrize("name", sorted(MANIFEST))
@pytest.mark.parametrize("decoder", ["decord", pytest.param("pyav", marks=pytest.mark.slow)])
def test_pictures_are_those_that_pyav_shows_at_the_time(name, decoder):
    clip = Clip(name, SEGMENTS, video=MEDIA / name)
    if "video" not in tracks(name):
        with pytest.raises(InputRejected, match=r"no video track|neither a video nor an audio track"):
            decode_clip(clip, MediaSpec(CLOCK, (8, 8), audio=False, decoder=decoder))
        return
    facts = probe(clip.video)
    shown, odd = straight(facts, "video")
    turned = MANIFEST[name]["first_video"].get("rotation_degrees", 0) % 180
    size = (facts.video.width, facts.video.height) if turned else (facts.video.height, facts.video.width)
    found = outcome(name, MediaSpec(CLOCK, size, audio=False, decoder=decoder), "frames", odd)
    if found is None:
        return
    times = np.array([time for time, _ in shown])
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    for segment in {0, SEGMENTS - 1}:
        wanted = CLOCK.frame_time(segment)
        held = max(0, int(np.searchsorted(times, wanted + 1e-3, side="right")) - 1)
        frame = shown[held][1]
        picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
        # decord converts 10 bits and wide colours in its own way; another picture of these clips differs by more.
        allowed = 0 if found.provenance["frames"].startswith("pyav") else 4
        assert np.abs(found.frames[segment].astype(int) - picture).mean() <= allowed, segment
        last = MANIFEST[name]["first_video"]["last_time"] - facts.origin_seconds
        inside = times[0] - step <= wanted <= max(last, times[-1]) + 2 * step
        assert found.masks["visual"][segment] == inside, segment


@pytest.mark.parametrize("name", sorted(MANIFEST))
def test_sound_is_as_long_and_as_loud_as_that_of_pyav(name):
    clip, spec = Clip(name, SEGMENTS, video=MEDIA / name), MediaSpec(CLOCK, None, audio=True)
    if "audio" not in tracks(name):
        with pytest.raises(InputRejected, match=r"no audio track|neither a video nor an audio track"):
            decode_clip(clip, spec)
        return
    facts = probe(clip.video)
    heard, odd = straight(facts, "audio")
    found = outcome(name, spec, "audio", odd)
    if found is None:
        return
    rate = facts.audio.sample_rate
    present, power = np.zeros(round(WINDOW * rate), bool), np.zeros(round(WINDOW * rate))
    for time, frame in heard:
        begin = round(time * rate)
        samples = frame.to_ndarray().astype(float)
        if not frame.format.is_planar:
            samples = samples.reshape(-1, frame.layout.nb_channels).T
        if frame.format.name.startswith("s"):
            samples /= 2.0 ** (8 * frame.format.bytes - 1)
        elif frame.format.name.startswith("u8"):
            samples = (samples - 128) / 128
        low, high = max(begin, 0), max(0, min(begin + frame.samples, len(present)))
        if low >= high:
            continue
        present[low:high] = True
        power[low:high] = samples.mean(0)[low - begin : high - begin] ** 2
    parts = np.array_split(present, SEGMENTS)
    assert found.masks["audio"].tolist() == [bool(part.mean() >= 0.5) for part in parts]
    theirs = [float(np.sqrt(part.mean())) for part in np.array_split(power, SEGMENTS)]
    ours = np.sqrt((found.samples / 32768.0) ** 2).reshape(SEGMENTS, -1)
    assert np.sqrt((ours**2).mean(1)) == pytest.approx(theirs, rel=0.1, abs=1e-3)
