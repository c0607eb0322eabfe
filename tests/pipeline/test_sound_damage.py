"""Damaged sound: what it decodes to is right, or there is a sign that it is not. Sound files give no sign."""

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import pytest
from damage import sound
from damage.clips import CLIPS, SECONDS, corruptions, make_clip
from damage.outcome import outcome, tally

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.listeners.crc16 import crc16
from avpipe.pipeline.media.listeners.mp3_bytes import Music, music_of
from avpipe.pipeline.media.listeners.mp3_frames import frame_bytes, gain_places, turned_down
from avpipe.pipeline.media.listeners.placing import placed
from avpipe.pipeline.media.listeners.pyav_listener import listen_pyav
from avpipe.pipeline.media.listeners.sound_signs import HABIT, SoundSigns, check_numbers
from avpipe.pipeline.media.probe import CannotVouch, probe
from avpipe.pipeline.media.signs import ERROR, INFO, Line
from avpipe.pipeline.media.sound import file_sound, track_sound
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {kind: make_clip(folder / f"{kind}{CLIPS[kind].suffix}", kind) for kind in sound.ALONE}


def damaged(path, places, *, bit=0x10):
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= bit
    copy = path.with_stem(f"{path.stem}-hurt")
    copy.write_bytes(data)
    return copy


def cut_out(source, target, skip, **options):
    """Copies the packets from `skip` seconds on into another container."""
    with av.open(str(source)) as coming, av.open(str(target), "w", options=options) as going:
        track = coming.streams.audio[0]
        stream, first = going.add_stream_from_template(track), None
        for packet in coming.demux(track):
            if packet.size and packet.pts * packet.time_base >= skip:
                first = packet.pts if first is None else first
                packet.pts = packet.dts = packet.pts - first
                packet.stream = stream
                going.mux(packet)
    return target


@pytest.mark.parametrize("kind", sound.ALONE)
def test_sound_files_give_no_sign(clips, kind):
    heard = file_sound(clips[kind], CLOCK, SECONDS)
    assert heard.mask.all()
    assert heard.backend.startswith("soundfile" if kind in sound.LIBSNDFILE else "pyav")
    assert not sound.differ(track_sound(probe(clips[kind]), CLOCK, SECONDS).samples[1:-1], heard.samples[1:-1])


@pytest.mark.parametrize("kind", ["aac", "mp3", "opus"])
def test_damage_is_seldom_silent(clips, kind):
    right = sound.by_avpipe(clips[kind])
    copy = clips[kind].with_stem("copy")
    found = []
    for _, data in corruptions(clips[kind].read_bytes(), seed=4, count=9):
        copy.write_bytes(data)
        found.append(outcome(sound.by_avpipe(copy), right, sound.differ))
    assert "silent" not in found
    assert found.count("sign") >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["aac", "mp3", "opus", "flac"])
def test_damage_is_seldom_silent_over_many_copies(clips, kind):
    found = tally(sound.by_avpipe, clips[kind], sound.differ, range(6))
    assert found["silent"] <= 0.03 * found.total(), found
    assert found["stopped"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h264", "mpeg4-avi"])
def test_damage_to_the_sound_of_a_video_is_seldom_silent(tmp_path, kind):
    clip = make_clip(tmp_path / f"clip{CLIPS[kind].suffix}", kind)
    found = tally(sound.by_avpipe, clip, sound.differ, range(6))
    assert found["silent"] <= 0.03 * found.total(), found


@pytest.mark.slow
@pytest.mark.parametrize("kind", sound.ALONE)
def test_no_more_is_silent_than_in_bare_pyav(clips, kind):
    ours, bare = (tally(read, clips[kind], sound.differ, [0, 1]) for read in (sound.by_avpipe, sound.by_pyav))
    assert ours["silent"] <= bare["silent"]


@pytest.mark.parametrize(("codec", "rate", "layout"), [("pcm_s16le", 48_000, "mono"), ("pcm_s24le", 44_100, "stereo")])
def test_large_chunks_of_avi_are_all_there(tmp_path, codec, rate, layout):
    """FFmpeg hands each one out in several packets."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for second in range(3):
            size = rate * stream.layout.nb_channels
            frame = av.AudioFrame.from_ndarray(np.full((1, size), 500 + second, np.int16), format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, second * rate
            container.mux(stream.encode(frame))
    assert track_sound(probe(path), CLOCK, 3).mask.all()
    with av.open(str(path)) as container:
        lost = list(container.streams.audio[0].index_entries)[1].pos
    with pytest.raises(InputRejected, match="bytes of the track are not where the index says"):
        track_sound(probe(damaged(path, range(lost, lost + 8))), CLOCK, 3)


def test_a_frame_of_flac_in_matroska_that_does_not_match_its_checksum(clips, tmp_path):
    path = cut_out(clips["flac"], tmp_path / "a.mkv", 0)
    assert track_sound(probe(path), CLOCK, 9).mask.all()
    for place in range(100_000, 400_000, 50_000):  # most of these decode to other samples without a complaint
        with pytest.raises(InputRejected, match="flac: "):
            track_sound(probe(damaged(path, [place])), CLOCK, 9)


def transport_stream(path, source, gap_seconds=0.0):
    """Remuxes the packets of a track; in the middle of it, its clock goes on by so much more."""
    with av.open(str(source)) as coming, av.open(str(path), "w", format="mpegts") as going:
        track = coming.streams.audio[0]
        stream = going.add_stream_from_template(track)
        for packet in coming.demux(track):
            if packet.size:
                late = round(gap_seconds / packet.time_base) if packet.pts * packet.time_base >= SECONDS / 2 else 0
                packet.pts = packet.dts = packet.pts + late
                packet.stream = stream
                going.mux(packet)
    return path


@pytest.mark.parametrize("before", [0, 4], ids=["ts", "m2ts"])
def test_packets_of_a_transport_stream_that_are_lost(clips, tmp_path, before):
    def written(packets):
        path.write_bytes(b"".join(bytes(before) + packet for packet in packets))
        return probe(path)

    path = transport_stream(tmp_path / "a.ts", clips["aac"])
    data = path.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    assert track_sound(written(packets), CLOCK, SECONDS).mask.all()
    begins = [number for number, packet in enumerate(packets) if packet[1:3] == b"\x41\x00"]  # frames, of the track
    whole = packets[: begins[20]] + packets[begins[21] :]
    with pytest.raises(InputRejected, match=r"packets of the transport stream are lost, .* at \d\.\d\d s"):
        track_sound(written(whole), CLOCK, SECONDS)


def test_a_gap_in_a_live_stream_is_silence(clips, tmp_path):
    path = transport_stream(tmp_path / "a.ts", clips["mp3"], gap_seconds=0.1)
    assert not listen_pyav(path, None, SECONDS).present.all()
    assert track_sound(probe(path), CLOCK, SECONDS).mask.all()


def test_crc16():
    assert crc16(b"123456789") == 0xBB3D
    assert crc16(b"") == 0


def test_one_flipped_bit_in_tagged_mp3_is_found(clips):
    assert music_of(clips["mp3"]) is Music.SOUND
    copy = damaged(clips["mp3"], [60_000])
    assert music_of(copy) is Music.DAMAGED
    with pytest.raises(InputRejected, match="does not match the checksum") as caught:
        file_sound(copy, CLOCK, 1)
    assert caught.value.stage == "audio"


@pytest.mark.parametrize("steps", [-3, 5])
def test_a_changed_volume_is_no_damage(clips, tmp_path, steps):
    """Programs that set the gain of each frame leave the checksum as it was."""
    data = clips["mp3"].read_bytes()
    tag = frame_bytes(data[data.index(b"\xff") :][:4]) + data.index(b"\xff")
    copy = tmp_path / "a.mp3"
    copy.write_bytes(data[:tag] + turned_down(data[tag:], gain_places(data[tag:]), steps))
    assert music_of(copy) is Music.SOUND
    before, after = (listen_pyav(path, None, 5.0).wave for path in (clips["mp3"], copy))
    np.testing.assert_allclose(after, before * 2 ** (-steps / 4), atol=1e-5)
    assert music_of(damaged(copy, [60_000])) is Music.DAMAGED


def test_a_note_of_a_changed_volume_is_believed(clips):
    copy = damaged(clips["mp3"], [60_000])
    data = copy.read_bytes()
    copy.write_bytes(data + b"APETAGEX MP3GAIN_UNDO")
    assert music_of(copy) is Music.UNKNOWN
    music, text = data[data.index(b"\xff") :], b"\0mp3gain_undo\x00-004,-004,N"
    frame = b"TXXX" + len(text).to_bytes(4) + bytes(2) + text
    copy.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 0, len(frame)]) + frame + music)
    assert music_of(copy) is Music.UNKNOWN


def test_an_untagged_mp3_of_changing_rate_is_heard_to_its_end(tmp_path, monkeypatch):
    """libsndfile takes the rate of the first frame for that of all."""
    parts, bare = [], (("write_xing", "0"), ("id3v2_version", "0"))
    for bits in (320_000, 32_000):
        monkeypatch.setitem(CLIPS, "part", replace(CLIPS["mp3"], sound_bits=bits, options=bare))
        parts.append(make_clip(tmp_path / "part.mp3", "part", seconds=2).read_bytes())
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(parts))
    heard = file_sound(path, CLOCK, 4)
    assert heard.mask.all()
    assert np.abs(heard.samples).max(axis=1).min() > 1000
    assert heard.backend.startswith("pyav")
    assert "soundfile gives" in heard.note


@dataclass
class Frame:
    """A frame of 1,000 samples a second."""

    pts: int | None
    samples: int = 10
    time_base: Fraction = Fraction(1, 1000)
    sample_rate: int = 1000


def test_a_time_stamp_that_the_next_one_contradicts_is_not_believed():
    def starts(*stamps, origin=0.0):
        return [start for start, _ in placed([Frame(pts) for pts in stamps], origin)]

    assert starts(0, 10, 29, 30, 40) == [0, 10, 20, 30, 40]
    assert starts(0, 10, 29, 39, 49) == [0, 10, 29, 39, 49]
    assert starts(0, 10, 29, 60) == [0, 10, 29, 60]
    assert starts(0, 13, None, 31, 40) == [0, 10, 20, 30, 40]
    assert starts(120, 130, 140, origin=0.1) == [20, 30, 40]
    assert starts(-17, -7, 3) == [-17, -7, 3]
    assert starts(0, 10, 40) == [0, 10, 40]


@pytest.mark.parametrize("kind", ["mp3", "mp3-untagged"])
@pytest.mark.parametrize("tail", [b"TAG" + b"x" * 125, bytes(1000), bytes(range(1, 200))], ids=["id3", "zeros", "junk"])
def test_what_follows_the_music_is_no_damage(clips, tmp_path, kind, tail):
    path = tmp_path / "a.mp3"
    path.write_bytes(clips[kind].read_bytes() + tail)
    assert file_sound(path, CLOCK, SECONDS + 1).mask.tolist() == [True] * SECONDS + [False]


def test_an_untagged_mp3_that_ends_inside_a_frame_is_refused(clips, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(clips["mp3-untagged"].read_bytes()[:60_000])
    with pytest.raises(InputRejected, match=r"ends inside a frame, after 4\.\d\d s"):
        file_sound(path, CLOCK, SECONDS)
    assert file_sound(path, CLOCK, 3).mask.all()


@pytest.mark.parametrize("suffix", ["mp3", "mp4", "mkv", "avi"])
def test_mp3_cut_out_of_a_longer_recording_is_sound(clips, tmp_path, suffix):
    """Its first frames refer to bits before the cut, and decoders say so."""
    options = {"write_xing": "0"} if suffix == "mp3" else {}
    path = cut_out(clips["mp3-untagged"], tmp_path / f"a.{suffix}", 2.3, **options)
    assert track_sound(probe(path), CLOCK, 7).mask.all()
    assert file_sound(path, CLOCK, 7).mask.all()


def test_a_careless_encoder_is_not_damage():
    """It complains of frame after frame; of a few, it is damage."""

    class Packet:
        size, is_corrupt = 1, False

        def decode(self):
            return [self]

    def judged(careless):
        signs, said = SoundSigns("mp3float"), []
        signs._strict = type("Strict", (), {"decode": lambda self, packet: said.extend(packet.says)})()
        signs.listen(lambda: said, {"mp3float"})
        for number in range(100):
            packet = Packet()
            packet.says = [Line(ERROR, "mp3float", "bits_left=3")] * (number < careless)
            signs.decode(packet)
        signs.judge()

    judged(0)
    judged(round(100 * HABIT))
    with pytest.raises(CannotVouch, match="bits_left=3"):
        judged(3)


def test_only_lines_of_the_track_and_errors_count():
    class Packet:
        size, is_corrupt = 1, False

        def __init__(self, *says):
            self.says = says

        def decode(self):
            said.extend(self.says)
            return [self]

    said = []
    signs = SoundSigns("aac")
    signs.listen(lambda: said, {"aac", "mov"})
    harmless = Packet(Line(ERROR, "h264", "error while decoding MB"), Line(INFO, "aac", "a remark"))
    assert signs.decode(harmless) == [harmless]
    with pytest.raises(CannotVouch, match="aac: Input buffer exhausted"):
        signs.decode(Packet(Line(ERROR, "aac", "Input buffer exhausted")))
    said.append(Line(ERROR, "mov", "stream ends"))  # while the next packet was read
    with pytest.raises(CannotVouch, match="mov: stream ends"):
        signs.decode(Packet())


def test_an_ogg_page_that_is_damaged_or_lost_is_found(clips, tmp_path):
    path = clips["opus"]
    data = path.read_bytes()
    starts = [place for place in range(len(data)) if data[place : place + 4] == b"OggS"]
    with pytest.raises(InputRejected, match=f"Ogg page at byte {starts[4]} does not match its checksum"):
        file_sound(damaged(path, [starts[4] + 500]), CLOCK, SECONDS)
    lost = tmp_path / "lost.ogg"
    lost.write_bytes(data[: starts[4]] + data[starts[5] :])
    with pytest.raises(InputRejected, match="pages are missing before"):
        file_sound(lost, CLOCK, SECONDS)
    junk = tmp_path / "junk.ogg"
    junk.write_bytes(data[: starts[4]] + b"\xde\xad\xbe\xef" * 4 + data[starts[4] :] + b"end")
    assert file_sound(junk, CLOCK, SECONDS).mask.all()


def test_damage_behind_the_window_does_not_matter(clips):
    data = clips["opus"].read_bytes()
    path = damaged(clips["opus"], [len(data) - 2000])
    assert file_sound(path, CLOCK, 2).mask.all()
    with pytest.raises(InputRejected):
        file_sound(path, CLOCK, SECONDS)


def test_a_wav_with_less_than_it_declares_is_refused(clips, tmp_path):
    data = clips["wav"].read_bytes()
    path = tmp_path / "a.wav"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputRejected, match=r"5\.00 s of 10\.00 s declared are there"):
        file_sound(path, CLOCK, SECONDS)
    assert file_sound(path, CLOCK, 3).mask.all()


def test_a_wav_of_a_stream_declares_no_length(clips, tmp_path):
    data = bytearray(clips["wav"].read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff" * 4
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    assert file_sound(path, CLOCK, SECONDS).mask.all()


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_every_channel_is_in_the_mean(tmp_path, layout):
    channels = av.AudioLayout(layout).nb_channels
    path = tmp_path / "a.m4a"
    wave = np.zeros((channels, 48_000), np.float32)
    wave[1] = 0.4 * np.sin(np.arange(48_000) / 20)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout=layout)
        interleaved = np.ascontiguousarray(wave.T[: 47 * 1024]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48_000, 0
        resampler = av.AudioResampler("fltp", layout, 48_000, frame_size=1024)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    heard = listen_pyav(path, None, 1.0).wave
    assert np.abs(heard[10_000:40_000]).max() == pytest.approx(0.4 / channels, rel=0.1)


def test_samples_that_are_no_numbers_are_a_sign():
    check_numbers(np.full((1, 8), 20.0, np.float32), "aac")
    check_numbers(np.full((1, 8), np.nan, np.float32), "pcm_f32le")
    for samples in (np.full((1, 8), np.inf, np.float32), np.full((1, 8), np.nan, np.float32)):
        with pytest.raises(CannotVouch, match="aac: samples that are no numbers"):
            check_numbers(samples, "aac")


def test_what_the_container_says_counts(clips):
    """A hole in Opus decodes without a word, but Matroska misses its elements."""
    path = damaged(clips["opus-mkv"], [])
    data = path.read_bytes()
    path.write_bytes(data[:40_000] + bytes(300) + data[40_300:])
    with pytest.raises(InputRejected, match=r"matroska,webm: .* invalid as first byte"):
        track_sound(probe(path), CLOCK, SECONDS)
