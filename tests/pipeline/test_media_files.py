"""Single files: what is refused and why, how pictures and sounds become arrays."""

import pickle
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected, UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.container import CONTAINERS, open_media
from avpipe.pipeline.media.decode import MediaSpec, decode_clip, signature
from avpipe.pipeline.media.frames import image_frames, video_frames
from avpipe.pipeline.media.probe import AudioFacts, MediaFacts, VideoFacts, probe
from avpipe.pipeline.media.sound import file_sound, resample, track_sound
from avpipe.pipeline.timeline import Timeline

CLOCK = Timeline()
NOISE = (np.random.default_rng(0).standard_normal((160, 240, 3)) * 60 + 128).clip(0, 255).astype(np.uint8)


def video(path, *, frames=50, audio_seconds=0.0, **container_options):
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25"})
        stream.width, stream.height, stream.pix_fmt = 240, 160, "yuv420p"
        track = container.add_stream("aac", rate=16_000, layout="mono") if audio_seconds else None
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(NOISE, format="rgb24")))
        container.mux(stream.encode())
        if track is not None:
            frame = av.AudioFrame.from_ndarray(
                np.full((1, int(audio_seconds * 16_000)), 0.1, np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, 0
            resampler = av.AudioResampler("fltp", "mono", 16_000, frame_size=1024)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(track.encode(part))
            container.mux(track.encode())
    return path


def test_probe_reads_what_the_container_declares(tmp_path):
    facts = probe(video(tmp_path / "-dash.first.mp4", audio_seconds=2.0))
    assert (facts.video.codec, facts.video.width, facts.video.height) == ("h264", 240, 160)
    assert facts.video.frame_seconds == pytest.approx(0.04)
    assert facts.video.end_seconds == pytest.approx(2.0)
    assert (facts.audio.sample_rate, facts.audio.channels) == (16_000, 1)
    assert facts.audio.end_seconds == pytest.approx(2.0, abs=0.1)
    assert facts.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert facts.origin_seconds == 0


def test_probe_takes_the_length_of_a_matroska_stream_from_its_tag(tmp_path):
    facts = probe(video(tmp_path / "a.mkv", audio_seconds=1.0))
    assert facts.video.end_seconds == pytest.approx(2.0, abs=0.05)
    assert facts.audio.end_seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("video_start", "audio_start", "origin"), [(0, 0.044, 0), (1.44, 1.4, 1.4), (0, -0.007, 0), (None, 0.025, 0.025)]
)
def test_where_second_zero_lies(video_start, audio_start, origin):
    picture = None if video_start is None else VideoFacts(0, "h264", 8, 8, video_start, None, 0.04)
    facts = MediaFacts(Path("a.mp4"), "mov", 2.0, picture, AudioFacts(1, "aac", 44_100, 1, audio_start, None))
    assert facts.origin_seconds == origin


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
REFUSED = {
    "missing.mp4": (None, "no such file"),
    "empty.mp4": (b"", "empty"),
    "text.mp4": (
        "<html>Too many requests, später mehr</html>\n".encode() * 50,
        r"a text file \(an HTML page\), not media \(a failed",
    ),
    "page.mp4": (b"\xef\xbb\xbf\r\n<!DOCTYPE html><title>404</title>\n", r"\(an HTML page\)"),
    "notes.mp4": (b"see the other folder\n", r"a text file, not media \(a failed download"),
    "list.m3u8": (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n", r"\(a playlist\), not media \(put the media"),
    "jpeg.mp4": (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(2000), r"a JPEG picture, not media \(.*`frames`"),
    "png.mp4": (b"\x89PNG\r\n\x1a\n" + bytes(2000), r"a PNG picture, not media"),
    "webp.mp4": (b"RIFF\x20\0\0\0WEBPVP8 " + bytes(2000), r"a WebP picture, not media"),
    "zip.mp4": (b"PK\3\4\x14\0" + bytes(2000), r"a zip archive, not media \(put the media"),
    "pdf.mp4": (b"%PDF-1.7\n\xff\xff" + bytes(2000), "a PDF document, not media"),
    "zeros.mp4": (bytes(4000), r"it begins with zero bytes \(a download"),
    "lfs.mp4": (LFS, "pointer"),
    "annex.mp4": (b"/annex/objects/SHA256E-s100--abc.mp4\n", "pointer"),
    "noise.mp4": (np.random.default_rng(1).bytes(5000), "cannot open"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_probe_refuses_with_a_clear_reason(tmp_path, name):
    content, reason = REFUSED[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputRejected, match=reason) as caught:
        probe(path)
    assert caught.value.stage == "probe"
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.stage) == (str(caught.value), "probe")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputRejected, match="directory") as caught:
        probe(tmp_path)
    assert "column `frames`" in caught.value.hint


CONCAT = "ffconcat version 1.0\n# \x01\nfile {}\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n# \x01\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("inner", ["inner.mp4", "none.mp4"])
@pytest.mark.parametrize(("script", "name"), [(CONCAT, "a.mp4"), (CONCAT, "-a.wav"), (HLS, "a.m3u8")])
def test_a_script_that_names_other_files_is_not_followed(tmp_path, script, name, inner):
    """A control byte makes it no text. FFmpeg knows it by content, most of them under any name."""
    video(tmp_path / "inner.mp4", audio_seconds=1.0)
    path = tmp_path / name
    path.write_text(script.format(inner))
    with pytest.raises(av.error.ArgumentError):  # of a missing inner file it would say so, had it looked
        open_media(path)
    for read in (
        lambda: probe(path),
        lambda: file_sound(path, CLOCK, 1),
        lambda: decode_clip(Clip("a", 1, video=path), MediaSpec(CLOCK, (8, 8), audio=True)),
    ):
        with pytest.raises(InputRejected, match="not opened, such as a playlist") as caught:
            read()
        assert caught.value.stage == "probe"


def test_numbered_images_are_not_read_through_a_pattern(tmp_path):
    for name in ("001.png", "%03d.png"):
        Image.fromarray(NOISE).save(tmp_path / name)
    with pytest.raises(InputRejected, match="a PNG picture, not media"):
        probe(tmp_path / "%03d.png")


def test_the_containers_that_are_opened_are_known_and_name_no_other_files():
    assert set(CONTAINERS.split(",")) <= av.formats_available
    assert not {"concat", "hls", "dash", "image2", "imf", "sdp", "rtsp", "lavfi", "vobsub", "mlv"} & set(
        CONTAINERS.split(",")
    )


def test_no_protocol_but_file_is_used(tmp_path):
    inside = Path(f"subfile,,start,0,end,0,,:{video(tmp_path / 'a.mp4')}")
    with av.open(str(inside)):
        pass  # FFmpeg alone takes it
    with pytest.raises(av.error.FFmpegError):
        open_media(inside)


def test_every_reader_opens_by_the_same_rules(tmp_path):
    """Also one that is handed facts of a file that was another one then."""
    path = video(tmp_path / "a.mp4", audio_seconds=2.0)
    facts = probe(path)
    path.rename(tmp_path / "inner.mp4")
    path.write_text(CONCAT.format("inner.mp4"))
    with pytest.raises(InputRejected, match="Invalid argument") as caught:
        video_frames(facts, CLOCK, 1, size=(8, 8), decoder="pyav")
    assert caught.value.stage == "frames"
    with pytest.raises(InputRejected, match="Invalid argument") as caught:
        track_sound(facts, CLOCK, 1)
    assert caught.value.stage == "audio"


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        song = container.add_stream("mp3", rate=44_100)
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 44_100), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        resampler = av.AudioResampler("fltp", "stereo", 44_100, frame_size=1152)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(song.encode(part))
        container.mux(song.encode())
    facts = probe(path)
    assert facts.video is None
    assert facts.audio is not None


def test_what_is_wanted_must_be_there(tmp_path):
    silent = video(tmp_path / "silent.mp4")
    with pytest.raises(InputRejected, match="no audio track") as caught:
        decode_clip(Clip("a", 2, video=silent), MediaSpec(CLOCK, (8, 8), audio=True))
    assert caught.value.stage == "audio"
    assert "--modality visual" in caught.value.hint
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    with pytest.raises(InputRejected, match="no video track") as caught:
        decode_clip(Clip("a", 1, video=tmp_path / "a.wav"), MediaSpec(CLOCK, (8, 8), audio=False))
    assert caught.value.stage == "frames"
    assert "--modality audio" in caught.value.hint
    with pytest.raises(InputRejected, match="neither a video nor"):
        decode_clip(Clip("a", 1), MediaSpec(CLOCK, (8, 8), audio=False))


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_a_video_cut_short_is_refused_with_both_lengths(tmp_path, decoder):
    path = video(tmp_path / "a.mp4", frames=250, audio_seconds=10.0, movflags="faststart")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    clip = Clip("a", 10, video=path)
    with pytest.raises(InputRejected, match=r"the container says 10\.00 s") as caught:
        decode_clip(clip, MediaSpec(CLOCK, (8, 8), audio=False, decoder=decoder))
    assert caught.value.stage == "frames"
    with pytest.raises(InputRejected, match=r"decodes \d\.\d\d s of (9\.9|10\.0)\d s declared") as caught:
        decode_clip(clip, MediaSpec(CLOCK, None, audio=True))
    assert caught.value.stage == "audio"


def test_squash_is_antialiased_bicubic(tmp_path):
    video_path = video(tmp_path / "a.mp4")
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(NOISE).resize((30, 20), Image.Resampling.BICUBIC)).astype(int)
    image = image_frames([tmp_path / "a.png"], 1, size=(20, 30)).pictures[0]
    assert image.shape == (20, 30, 3)
    assert np.array_equal(image, expected)
    frame = decode_clip(Clip("a", 1, video=video_path), MediaSpec(CLOCK, (20, 30), audio=False)).frames[0]
    assert np.abs(frame - expected).mean() < 5  # an aliased one differs by about 30


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_images_of_any_mode_become_rgb(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)
    else:
        Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode).save(path)
    pictures = image_frames([path], 1, size=(4, 4)).pictures
    assert pictures.shape == (1, 4, 4, 3)
    assert pictures.dtype == np.uint8
    assert pictures.min() > 100


def test_images_that_are_missing_broken_or_too_few(tmp_path):
    good, bad = tmp_path / "0001.png", tmp_path / "0002.png"
    Image.fromarray(NOISE).save(good)
    bad.write_bytes(good.read_bytes()[:2000])
    for paths, segments, reason in (
        ([good, bad], 2, "0002.png: not a readable image"),
        ([good, tmp_path / "0003.png"], 2, "0003.png: no such file"),
        ([good], 2, "1 images in .* for 2 segments"),
    ):
        with pytest.raises(InputRejected, match=reason) as caught:
            image_frames(paths, segments, size=(8, 8))
        assert caught.value.stage == "frames"


def test_sound_at_the_right_rate_passes_bit_for_bit(tmp_path):
    wave = np.random.default_rng(0).integers(-32768, 32768, 40_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    sound = file_sound(tmp_path / "a.wav", CLOCK, 4)
    assert np.array_equal(sound.samples.reshape(-1)[:40_000], wave)
    assert not sound.samples.reshape(-1)[40_000:].any()
    assert sound.samples.shape == (4, 16_000)
    assert sound.mask.tolist() == [True, True, True, False]  # the third is exactly half full
    assert sound.backend.startswith("soundfile")


def test_a_segment_less_than_half_full_is_masked(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16_000 + 7_900, 0.5), 16_000)
    sound = file_sound(tmp_path / "a.wav", CLOCK, 2)
    assert sound.mask.tolist() == [True, False]
    assert sound.samples[1, :7_900].all()  # kept all the same


def test_channels_are_averaged_and_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile([[0.5, -0.25]], (16_000, 1)), 16_000, subtype="FLOAT")
    assert np.unique(file_sound(tmp_path / "a.wav", CLOCK, 1).samples).tolist() == [4096]
    soundfile.write(tmp_path / "b.wav", np.repeat([1.5, -1.5], 8_000), 16_000, subtype="FLOAT")
    assert np.unique(file_sound(tmp_path / "b.wav", CLOCK, 1).samples).tolist() == [-32768, 32767]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "m4a"])
def test_a_beep_stays_where_it_is_in_every_format(tmp_path, suffix):
    time = np.arange(44_100 * 3) / 44_100
    wave = np.where((time >= 1.5) & (time < 1.6), 0.5 * np.sin(2 * np.pi * 1000 * time), 0)
    path = tmp_path / f"a.{suffix}"
    if suffix == "m4a":
        soundfile.write(tmp_path / "a.wav", wave, 44_100)
        with av.open(str(tmp_path / "a.wav")) as source, av.open(str(path), "w") as target:
            track = target.add_stream("aac", rate=44_100, layout="mono")
            resampler = av.AudioResampler("fltp", "mono", 44_100, frame_size=1024)
            frames = [part for frame in source.decode(audio=0) for part in resampler.resample(frame)]
            for frame in (*frames, *resampler.resample(None)):
                target.mux(track.encode(frame))
            target.mux(track.encode())
    else:
        soundfile.write(path, wave, 44_100)
    sound = file_sound(path, CLOCK, 3)
    loud = np.flatnonzero(np.abs(sound.samples.reshape(-1).astype(int)) > 4000) / 16_000
    assert loud[0] == pytest.approx(1.5, abs=0.008)
    assert loud[-1] == pytest.approx(1.6, abs=0.008)
    assert sound.mask.all()
    assert sound.backend.startswith("pyav" if suffix == "m4a" else "soundfile")
    assert sound.note == ("soundfile cannot read it (not its format)" if suffix == "m4a" else "")


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_an_audio_file_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).standard_normal(44_100 * 4) * 0.1, 44_100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputRejected, match=r"soundfile .*; PyAV decodes \d\.\d\d s of 4\.0\d s declared") as caught:
        file_sound(path, CLOCK, 4)
    assert caught.value.stage == "audio"
    assert file_sound(path, CLOCK, 1).mask.all()  # the first second is there, and is all that is asked for


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 1 / 128), ("PCM_16", 1e-4), ("PCM_24", 1e-4), ("PCM_32", 1e-4)]
)
def test_sample_formats_have_one_scale_in_both_backends(tmp_path, subtype, step):
    path = tmp_path / "a.wav"
    wave = 0.5 * np.sin(np.arange(16_000) / 10)
    soundfile.write(path, np.stack([wave, wave], 1), 16_000, subtype=subtype)
    by_soundfile = file_sound(path, CLOCK, 1).samples[0] / 32768
    by_pyav = track_sound(probe(path), CLOCK, 1).samples[0] / 32768
    assert np.abs(by_soundfile - wave).max() < step
    assert np.abs(by_pyav - wave).max() < step


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_resampling_does_not_move_the_sound(rate):
    wave = np.zeros(rate * 2, np.float32)
    wave[rate] = 1
    moved = resample(wave, rate, 16_000)
    assert len(moved) == 32_000
    assert int(moved.argmax()) == 16_000
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    ideal = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(resample(tone, rate, 16_000) - ideal)[100:-100].max() < 1e-3


def test_frames_and_sound_from_files_of_their_own(tmp_path):
    images = [tmp_path / f"-a.mp4_{number}.png" for number in (1, 2)]
    for grey, path in zip((10, 250), images, strict=True):
        Image.new("RGB", (16, 16), (grey, grey, grey)).save(path)
    soundfile.write(tmp_path / "-a.wav", np.full(32_000, 0.25), 16_000)
    clip = decode_clip(
        Clip("s4/-a", 2, frames=tuple(images), audio=tmp_path / "-a.wav"), MediaSpec(CLOCK, (8, 8), audio=True)
    )
    assert clip.frames[:, 0, 0, 0].tolist() == [10, 250]
    assert np.unique(clip.samples).tolist() == [8192]
    assert {key: mask.tolist() for key, mask in clip.masks.items()} == {"visual": [True] * 2, "audio": [True] * 2}
    assert sorted(clip.provenance) == ["audio", "frames"]
    assert clip.seconds > 0


def test_without_decord_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    clip = Clip("a", 1, video=video(tmp_path / "a.mp4"))
    with pytest.raises(EnvironmentLacking, match=r"decord.*pyav"):
        decode_clip(clip, MediaSpec(CLOCK, (8, 8), audio=False))
    assert decode_clip(clip, MediaSpec(CLOCK, (8, 8), audio=False, decoder="pyav")).frames.shape == (1, 8, 8, 3)


def test_spec_is_checked_at_the_edge():
    with pytest.raises(UsageError, match="did you mean 'decord'"):
        MediaSpec(CLOCK, (8, 8), audio=True, decoder="decrod")
    with pytest.raises(UsageError, match="at least 1 pixel"):
        MediaSpec(CLOCK, (0, 8), audio=True)
    with pytest.raises(UsageError, match="neither"):
        MediaSpec(CLOCK, None, audio=False)


def test_each_fingerprint_holds_only_what_matters_to_it():
    fields = MediaSpec(CLOCK, (8, 8), audio=True).fields()
    assert MediaSpec(CLOCK, (8, 8), audio=True, decoder="pyav").fields() == fields
    other_rate = MediaSpec(Timeline(sample_rate=32_000), (8, 8), audio=True).fields()
    assert other_rate["visual"] == fields["visual"]
    assert other_rate["audio"] != fields["audio"]
    other_frame = MediaSpec(Timeline(frame_position=0.0), (8, 8), audio=True).fields()
    assert other_frame["audio"] == fields["audio"]
    assert other_frame["visual"] != fields["visual"]
    assert list(MediaSpec(CLOCK, None, audio=True).fields()) == ["audio"]


def test_signature_notices_changes_and_reads_nothing(tmp_path):
    path = tmp_path / "a.wav"
    clip = Clip("a", 1, video=path, audio=tmp_path / "none.wav")
    assert signature(clip) == ","
    path.write_bytes(b"not media at all")
    first = signature(clip)
    assert first.startswith(",16:")
    path.write_bytes(b"longer than it was")
    assert signature(clip) != first


def test_pipeline_media_stays_light():
    """Importing the package must not pull in decoders: the command line imports it for its types."""
    heavy = ("av", "decord", "soundfile", "PIL", "torch")
    code = f"import sys, avpipe.pipeline.media.sandbox; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout.strip() == "[]"
