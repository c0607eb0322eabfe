"""Damaged sound: what it decodes to is right, or there is a sign that it is not. Sound files give no sign."""

import av
import numpy as np
import pytest
from damage import sound
from damage.clips import CLIPS, SECONDS, corruptions, make_clip
from damage.outcome import outcome, tally

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.listeners.mp3_bytes import Music, crc16, music_of
from avpipe.pipeline.media.listeners.pyav_listener import listen_pyav
from avpipe.pipeline.media.listeners.sound_signs import HABIT, LOUDEST, SoundSigns, check_loudness
from avpipe.pipeline.media.probe import CannotVouch, probe
from avpipe.pipeline.media.signs import ERROR, INFO, Line
from avpipe.pipeline.media.sound import file_sound, track_sound
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline()
ALONE = tuple(kind for kind in sound.KINDS if " " not in kind)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {kind: make_clip(folder / f"{kind}{CLIPS[kind].suffix}", kind) for kind in ALONE}


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


@pytest.mark.parametrize("kind", ALONE)
def test_sound_files_give_no_sign(clips, kind):
    heard = file_sound(clips[kind], CLOCK, SECONDS)
    assert heard.mask.all()
    assert heard.backend.startswith("pyav" if kind == "aac" else "soundfile")
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
@pytest.mark.parametrize("kind", ALONE)
def test_no_more_is_silent_than_in_bare_pyav(clips, kind):
    ours, bare = (tally(read, clips[kind], sound.differ, [0, 1]) for read in (sound.by_avpipe, sound.by_pyav))
    assert ours["silent"] <= bare["silent"]


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


def test_a_changed_volume_is_no_damage(clips):
    """Programs that set the gain of each frame leave a note behind the music, and the checksum as it was."""
    copy = damaged(clips["mp3"], [60_000])
    copy.write_bytes(copy.read_bytes() + b"APETAGEX MP3GAIN_UNDO")
    assert music_of(copy) is Music.UNKNOWN


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
        for number in range(100):
            packet = Packet()
            packet.says = [Line(ERROR, "mp3float", "bits_left=3")] * (number < careless)
            signs.decode(packet, lambda: said, {"mp3float"})
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
    harmless = Packet(Line(ERROR, "h264", "error while decoding MB"), Line(INFO, "aac", "a remark"))
    assert signs.decode(harmless, lambda: said, {"aac", "mov"}) == [harmless]
    with pytest.raises(CannotVouch, match="aac: Input buffer exhausted"):
        signs.decode(Packet(Line(ERROR, "aac", "Input buffer exhausted")), lambda: said, {"aac", "mov"})


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


def test_sound_far_above_full_scale_is_a_sign():
    check_loudness(np.full((1, 8), LOUDEST, np.float32), "aac")
    check_loudness(np.full((1, 8), 9.0, np.float32), "pcm_f32le")
    for samples in (np.full((1, 8), 4.1, np.float32), np.full((1, 8), np.nan, np.float32)):
        with pytest.raises(CannotVouch, match="4 times full scale"):
            check_loudness(samples, "aac")
