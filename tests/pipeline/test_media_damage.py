"""Damaged video: what it decodes to is right, or there is a sign that it is not. Sound files give no sign."""

import os
import sys
import threading

import av
import numpy as np
import pytest
from damage import video
from damage.clips import CLIPS, FPS, make_clip, scene
from damage.outcome import Reading, isolated, outcome, tally

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import frames
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.packets import _zeroed
from avpipe.pipeline.media.probe import probe
from avpipe.pipeline.media.readers import pyav_reader
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.media.signs import ERROR, INFO, WARNING, Line, damage, libav_lines, native_lines
from avpipe.pipeline.timeline import Timeline

SECONDS = 2
SPEC = MediaSpec(Timeline(), (240, 320), audio=False)
KINDS = [kind for kind in video.KINDS if kind != "h264-faststart"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {kind: make_clip(folder / f"{kind}{CLIPS[kind].suffix}", kind, seconds=SECONDS) for kind in KINDS}


def decoded(path, decoder="decord", segments=SECONDS):
    return decode_clip(Clip("clip", segments, video=path), MediaSpec(Timeline(), (240, 320), False, decoder))


def through(pool, segments):
    """A reader by the decoder processes of `avpipe extract`."""

    def read(path):
        try:
            clip = pool.submit(Clip("clip", segments, video=path)).result(90)
        except InputRejected as error:
            return Reading([], str(error))
        return video.of_clip(clip.frames, clip.masks["visual"])

    return read


@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_give_no_sign(clips, kind):
    found = {decoder: decoded(clips[kind], decoder) for decoder in ("decord", "pyav")}
    for clip in found.values():
        assert clip.masks["visual"].all()
    notes = [clip.provenance.get("frames_note") for clip in found.values()]
    # decord cannot tell the times of AVI files with B-frames, sound or not
    assert notes == [None if kind != "mpeg4-avi" else "decord's time stamps do not advance", None]
    assert not video.differ(found["decord"].frames, found["pyav"].frames)
    right = np.stack(list(scene(SECONDS, seed=0)))[[FPS // 2, FPS + FPS // 2]]
    assert np.abs(found["pyav"].frames.astype(int) - right).mean() < 12


def test_damage_is_not_silent(clips):
    with DecodePool(SPEC) as pool:
        found = tally(through(pool, SECONDS), clips["h264"], video.differ, seeds=[0], count=24)
        found += tally(through(pool, SECONDS), clips["mpeg4-avi"], video.differ, seeds=[0], count=12)
    assert found["silent"] <= 1, found
    assert found["sign"] > 18  # and it was damage
    assert not found["stopped"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [kind for kind in video.KINDS if kind != "vp9"])
def test_of_60_damaged_copies_at_most_3_percent_are_wrong_without_a_sign(tmp_path, kind):
    seeds = (0, 1, 2)
    clip = make_clip(tmp_path / f"clip{CLIPS[kind].suffix}", kind)
    with DecodePool(video.spec()) as pool:
        found = tally(through(pool, 10), clip, video.differ, seeds)
    assert found.total() == 60 * len(seeds)
    assert found["silent"] <= 0.03 * found.total(), found
    assert found["sign"] > 60
    assert not found["stopped"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vp9_is_no_worse_than_bare_pyav(tmp_path):
    clip = make_clip(tmp_path / "clip.webm", "vp9")
    with DecodePool(video.spec()) as pool:
        ours = tally(through(pool, 10), clip, video.differ, [0])
    assert ours["silent"] <= tally(isolated(video.by_pyav), clip, video.differ, [0])["silent"]


def test_the_measure_knows_wrong_from_right():
    right = Reading([np.full((4, 4, 3), 100, np.uint8)] * 2)
    near, far = np.full((4, 4, 3), 102, np.uint8), np.full((4, 4, 3), 103, np.uint8)
    cases = {
        "unaffected": Reading([near, near]),
        "silent": Reading([near, far]),
        "sign": Reading([near, far], "is_corrupt"),
        "sign, output right": Reading([near, near], "is_corrupt"),
    }
    for name, reading in cases.items():
        assert outcome(reading, right, video.differ) == name
    assert outcome(Reading([near, None]), right, video.differ) == "sign"  # masked
    assert outcome(Reading([far, None]), right, video.differ) == "silent"
    assert outcome(Reading([near]), right, video.differ) == "silent"  # one too few, and no word
    assert outcome(None, right, video.differ) == "stopped"


def packets(path):
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def zeroed(path, copy, begin, length):
    data = bytearray(path.read_bytes())
    data[begin : begin + length] = bytes(length)
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("kind", ["h264", "h264-mkv", "mpeg4"])
def test_a_hole_within_a_picture_is_seen_before_it_is_decoded(clips, tmp_path, kind):
    source = clips[kind]
    data = source.read_bytes()
    begin, size = max(packets(source)[1:], key=lambda packet: packet[1])
    middle = begin + size * 2 // 3
    # behind any byte that is zero already, and before a 3 that may stand behind two zero bytes
    while 0 in data[middle - 2 : middle] or data[middle + 64] <= 3:
        middle += 1
    codec = probe(source).video.codec
    with pytest.raises(InputRejected, match=f"at \\d.\\d\\d s holds zero bytes where {codec} cannot") as caught:
        decoded(zeroed(source, tmp_path / source.name, middle, 64))
    assert caught.value.stage == "frames"
    assert "damaged?" in caught.value.hint


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (b"\1\0\0\0\1", False),  # a zero byte before a start code
        (b"\1\0\0\0\3", True),
        (b"\1\0\0\0\0\1", True),  # one zero byte more than that
        (b"\1\0\0\1\2" + bytes(31), False),  # padding
        (b"\1\0\0\1\2" + bytes(32), True),
        (bytes(40), True),
    ],
)
def test_how_many_zero_bytes_a_picture_may_hold(part, wrong):
    assert _zeroed(part) is wrong


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("kind", ["h264-mkv", "vp9"])
def test_packets_that_matroska_lost_are_missed(clips, tmp_path, kind, decoder):
    """FFmpeg goes on behind what it cannot read, and a picture before it would be shown for as long as that lasts."""
    source, places = clips[kind], packets(clips[kind])
    data, (begin, _), (end, _) = bytearray(source.read_bytes()), places[12], places[16]
    data[begin - 8 : end] = b"\xff" * (end - begin + 8)
    copy = tmp_path / source.name
    copy.write_bytes(data)
    assert len(packets(copy)) < len(places) - 3
    with pytest.raises(InputRejected, match=r"packets are lost or damaged \(matroska,webm: "):
        decoded(copy, decoder)


def test_what_a_decoder_says_of_concealment_counts():
    said = Line(INFO, "h264", "concealing 30 DC, 30 AC, 30 MV errors in P frame")
    assert damage([Line(INFO, "h264", "Reinit context to 320x240"), said]) is said
    assert damage([Line(INFO, "h264", "Reinit context to 320x240")]) is None


def test_damage_behind_the_last_wanted_frame_does_not_matter(clips, tmp_path):
    source = clips["h264"]
    begin, size = packets(source)[-3]
    copy = zeroed(source, tmp_path / source.name, begin, size)
    assert np.array_equal(decoded(copy, segments=1).frames, decoded(source, segments=1).frames)
    with pytest.raises(InputRejected):
        decode_clip(Clip("clip", 2, video=copy), MediaSpec(Timeline(frame_position=0.98), (240, 320), audio=False))


def test_a_packet_that_an_avi_file_lost_is_missed(clips, tmp_path):
    source = clips["mpeg4-avi"]
    begin, _ = packets(source)[10]
    with pytest.raises(InputRejected, match=r"1 of \d+ packets in the index are not where it says"):
        decoded(zeroed(source, tmp_path / source.name, begin - 8, 8))


def test_an_error_that_decord_prints_sends_the_clip_on(clips, tmp_path):
    """MPEG-4 with a flipped bit decodes in every decoder, and only the log tells."""
    source = clips["mpeg4"]
    data = bytearray(source.read_bytes())
    begin, size = max(packets(source)[1:], key=lambda packet: packet[1])
    for place in range(begin + size // 3, begin + size // 3 + 200, 10):
        data[place] ^= 0x10
    copy = tmp_path / "flipped.mp4"
    copy.write_bytes(data)
    with pytest.raises(InputRejected, match=r"decord: mpeg4: .*; PyAV: (mpeg4: |the frame at .* is damaged)"):
        decoded(copy)


def test_without_room_for_a_few_pictures_nothing_is_called_damaged(clips, tmp_path, monkeypatch):
    """FFmpeg often calls data invalid when it is refused memory, and does not mention that."""
    begin, size = packets(clips["h264"])[0]
    copy = zeroed(clips["h264"], tmp_path / "a.mp4", begin, size)
    monkeypatch.setattr(frames, "check_packets", lambda *anything: None)
    with pytest.raises(InputRejected):
        decoded(copy)
    monkeypatch.setattr(pyav_reader, "_LEAST_PICTURE_BYTES", 2**40)
    assert decoded(clips["h264"]).masks["visual"].all()
    for decoder in ("decord", "pyav"):
        with pytest.raises(MemoryError):
            decoded(copy, decoder)


def test_a_cut_between_open_groups_of_pictures_is_no_damage(tmp_path):
    """A stretch copied out of a longer H.264 video makes FFmpeg log an error, and its pictures are right."""
    with av.open(str(tmp_path / "whole.mkv"), "w") as whole:
        stream = whole.add_stream("libx264", rate=25, options={"g": "25", "x264-params": "open-gop=1:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for picture in scene(3, seed=0):
            whole.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        whole.mux(stream.encode())
    with av.open(str(tmp_path / "whole.mkv")) as whole, av.open(str(tmp_path / "part.mp4"), "w") as part:
        copied, keys = part.add_stream_from_template(whole.streams.video[0]), 0
        for packet in whole.demux(video=0):
            keys += packet.is_keyframe
            if keys > 1 and packet.dts is not None:
                packet.stream = copied
                part.mux(packet)
    with av.open(str(tmp_path / "part.mp4")) as part:
        part.streams.video[0].codec_context.thread_count = 1
        with libav_lines() as lines:
            assert sum(1 for _ in part.decode(video=0)) > 40
        assert [line.text for line in lines()] == ["mmco: unref short failure"]
        assert damage(lines()) is None
    clip = decoded(tmp_path / "part.mp4")
    assert clip.masks["visual"].all()
    assert "mmco" not in clip.provenance.get("frames_note", "")


def test_every_line_is_kept_and_pyav_is_left_as_it_was():
    assert av.logging.get_level() is None
    heard = []
    for _ in range(2):
        with libav_lines() as lines:
            av.logging.log(ERROR, "h264", "the same line\n")
            av.logging.log(ERROR, "h264", "the same line\n")
            av.logging.log(WARNING, "h264", "a warning")
            thread = threading.Thread(target=av.logging.log, args=(ERROR, "h264", "from elsewhere"))
            thread.start()
            thread.join()
            heard.append(lines())
    assert heard == [[Line(ERROR, "h264", "the same line")] * 2] * 2
    with libav_lines(WARNING) as lines:
        av.logging.log(WARNING, "h264", "a warning")
        assert [str(line) for line in lines()] == ["h264: a warning"]
        assert damage(lines()) is None
    assert av.logging.get_level() is None


def test_native_lines_are_caught_and_stderr_is_given_back(capfd):
    with native_lines() as lines:
        os.write(2, b"[h264 @ 0x55d0aa] error while decoding MB 3 4\n[12:00:00] /a.cc:3: something else\n")
        assert [str(line) for line in lines()] == ["h264: error while decoding MB 3 4"]
        os.write(2, b"[mov,mp4 @ 0x1] partial file\n")
        assert str(lines()[1]) == "mov,mp4: partial file"
    os.write(2, b"heard again\n")
    print("and again", file=sys.stderr)
    assert capfd.readouterr().err == "heard again\nand again\n"
