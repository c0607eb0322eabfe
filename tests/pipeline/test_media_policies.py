"""What is stored for clips that are short, silent or blind, by policy; and files beside their checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avpipe.pipeline.errors import InputRejected, UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.media.policies import CHOICES, Policies, policies_of
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.demo.encode import write_mp4

CLOCK = Timeline()
SHADES = (40, 90, 140, 200)


def spec(*, frames: bool = True, audio: bool = True, **policies: str) -> MediaSpec:
    return MediaSpec(CLOCK, (8, 8) if frames else None, audio=audio, policies=Policies(**policies))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """4 s of pictures, a shade a second, and 3.2 s of sound, a level a second."""
    path = tmp_path_factory.mktemp("short") / "-a.mp4"
    pictures = np.broadcast_to(np.repeat(SHADES, 10)[:, None, None, None], (40, 32, 32, 3)).astype(np.uint8)
    tone = np.sin(np.arange(51_200) * 0.2) * np.repeat([0.1, 0.2, 0.4, 0.4], 16_000)[:51_200]
    write_mp4(path, pictures, 10, tone[None].astype(np.float32), 16_000)
    return path


@pytest.fixture
def silent(short, tmp_path):
    """4 s of pictures without a track of sound."""
    import av

    with av.open(str(short)) as source, av.open(str(tmp_path / "silent.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return tmp_path / "silent.mp4"


def late_track(source: Path, target: Path, kind: str) -> None:
    """A copy in which one track, `video` or `audio`, begins 3 s after the other."""
    import av

    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in (old.streams.video[0], old.streams.audio[0])}
        for packet in old.demux():
            if packet.dts is not None:
                delay = round(3 / packet.time_base) if packet.stream.type == kind else 0
                packet.pts, packet.dts = packet.pts + delay, packet.dts + delay
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


@pytest.fixture
def blind(tmp_path):
    soundfile.write(tmp_path / "blind.wav", np.full(32_000, 0.25), 16_000)
    return tmp_path / "blind.wav"


def masks(clip) -> dict[str, list[int]]:
    return {modality: mask.astype(int).tolist() for modality, mask in clip.masks.items()}


def loudness(clip) -> np.ndarray:
    """The level of each segment, without its ends, where the codec rounds corners off."""
    return np.abs(clip.samples[:, 2000:14_000].astype(float) / 32_768).max(axis=1)


def test_default_policies_have_the_names_that_caches_know():
    visual, audio = (MediaSpec(CLOCK, (8, 8), audio=True).fields()[m] for m in ("visual", "audio"))
    assert (visual["short_clip"], visual["missing_video"]) == ("repeat-nearest+mask", "reject")
    assert (audio["short_clip"], audio["missing_audio"]) == ("silence+mask", "reject")


def test_every_other_policy_changes_the_fingerprint_of_what_it_is_about_and_is_known_again():
    usual = spec().fields()
    about = {"short_clip": ["visual", "audio"], "missing_audio": ["audio"], "missing_video": ["visual"]}
    for name, choices in CHOICES.items():
        for choice in choices:
            fields = spec(**{name: choice}).fields()
            changed = [m for m in ("visual", "audio") if fields[m] != usual[m]]
            assert changed == (about[name] if choice != choices[0] else [])
            found = {key: value for m in fields for key, value in policies_of(m, fields[m]).items()}
            assert found[name] == choice
            assert Policies(**found) == Policies(**{name: choice})
    assert policies_of("audio", {"short_clip": "of a later version"}) == {}


def test_an_unknown_policy_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"policy for short clip 'repeats': did you mean 'repeat'\?"):
        Policies(short_clip="repeats")


def test_mask_marks_what_stands_in(short):
    clip = decode_clip(Clip("a", 6, video=short), spec())
    assert masks(clip) == {"visual": [1, 1, 1, 1, 0, 0], "audio": [1, 1, 1, 0, 0, 0]}
    assert clip.frames[:, 4, 4, 0] == pytest.approx([*SHADES, 200, 200], abs=4)
    assert clip.samples[3].any()  # 0.2 s of it is real, which is too little to count
    assert not clip.samples[4:].any()
    assert clip.provenance["frames_note"] == "2 of 6 segments masked (no picture: the nearest frame stands in)"
    assert (
        clip.provenance["audio_note"] == "3 of 6 segments masked (no sound in more than half of it: silence stands in)"
    )
    full = decode_clip(Clip("a", 3, video=short), spec())
    assert not {"frames_note", "audio_note"} & full.provenance.keys()


def test_repeat_fills_with_the_end_and_counts_it(short):
    usual = decode_clip(Clip("a", 6, video=short), spec())
    clip = decode_clip(Clip("a", 6, video=short), spec(short_clip="repeat"))
    assert masks(clip) == {"visual": [1] * 6, "audio": [1] * 6}
    assert np.array_equal(clip.frames, usual.frames)
    assert np.array_equal(clip.samples[:3], usual.samples[:3])
    assert all(np.array_equal(clip.samples[segment], usual.samples[2]) for segment in (3, 4, 5))
    assert loudness(clip) == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4, 0.4], abs=0.03)
    assert clip.provenance["frames_note"] == "ends early: 2 x the last frame repeated"
    assert clip.provenance["audio_note"] == "ends early: 3 x the last segment of sound repeated"


def test_reject_names_both_lengths(short):
    with pytest.raises(InputRejected, match=r"its pictures end after 4 of 6 s") as caught:
        decode_clip(Clip("a", 6, video=short), spec(short_clip="reject"))
    assert caught.value.stage == "frames"
    with pytest.raises(InputRejected, match=r"its sound ends after 3 of 4 s \(3 of 4 segments\)") as caught:
        decode_clip(Clip("a", 4, video=short), spec(short_clip="reject"))
    assert caught.value.stage == "audio"
    assert masks(decode_clip(Clip("a", 3, video=short), spec(short_clip="reject"))) == {
        "visual": [1] * 3,
        "audio": [1] * 3,
    }


@pytest.mark.parametrize("lacking", [0.4, 0.6])
def test_less_than_half_a_segment_is_not_short(tmp_path, lacking):
    soundfile.write(tmp_path / "a.wav", np.full(round((3 - lacking) * 16_000), 0.25), 16_000)
    clip, wanted = Clip("a", 3, audio=tmp_path / "a.wav"), spec(frames=False, short_clip="reject")
    if lacking > 0.5:
        with pytest.raises(InputRejected, match="its sound ends after 2 of 3 s"):
            decode_clip(clip, wanted)
    else:
        assert masks(decode_clip(clip, wanted)) == {"audio": [1, 1, 1]}


def test_what_lies_before_the_first_sound_is_not_the_end(short, tmp_path):
    """Sound that begins late stays masked where it is not there; `repeat` is about the end."""
    from avpipe.pipeline.media.sound import Sound
    from avpipe.pipeline.media.stand_ins import sound_at_end

    late = Sound(np.arange(4, dtype=np.int16)[:, None], np.array([False, True, True, False]), 2, "a backend", "a note")
    found = sound_at_end(late, "repeat", "a", 1.0)
    assert found.mask.tolist() == [False, True, True, True]
    assert found.samples[:, 0].tolist() == [0, 1, 2, 2]
    assert found.note.startswith("a note; ends early: 1 x the last segment of sound repeated; 1 of 4 segments masked")
    assert late.samples[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("content", ["empty.wav", "late.mkv"])
def test_a_file_without_a_sample_within_the_clip_is_missing_sound(short, tmp_path, content):
    """A wav file of no samples, and a track whose sound begins after the clip's end."""
    path = tmp_path / content
    if content == "empty.wav":
        soundfile.write(path, np.zeros(0), 16_000)
        clip = Clip("a", 2, video=short, audio=path)
    else:
        late_track(short, path, "audio")
        clip = Clip("a", 2, video=path)
    for short_clip in CHOICES["short_clip"]:
        with pytest.raises(InputRejected, match="no sound in the 2 s of the clip") as caught:
            decode_clip(clip, spec(short_clip=short_clip))
        assert (caught.value.stage, "--missing-audio" in caught.value.hint) == ("audio", True)
        found = decode_clip(clip, spec(short_clip=short_clip, missing_audio="silence"))
        assert masks(found) == {"visual": [1, 1], "audio": [0, 0]}
        assert found.provenance["audio_note"] == "no sound in the 2 s of the clip: silence stands in"


def test_pictures_that_begin_after_the_clip_are_missing(short, tmp_path):
    late_track(short, tmp_path / "late.mkv", "video")
    clip = Clip("a", 2, video=tmp_path / "late.mkv")
    for short_clip in CHOICES["short_clip"]:
        with pytest.raises(InputRejected, match="no picture in the 2 s of the clip") as caught:
            decode_clip(clip, spec(short_clip=short_clip))
        assert (caught.value.stage, "--missing-video" in caught.value.hint) == ("frames", True)
        found = decode_clip(clip, spec(short_clip=short_clip, missing_video="blank"))
        assert masks(found) == {"visual": [0, 0], "audio": [1, 1]}
        assert found.provenance["frames_note"] == "no picture in the 2 s of the clip: grey frames stand in"
        assert np.unique(found.frames).tolist() == [128]


def test_pictures_of_less_than_half_a_segment_are_repeated_and_never_missing(tmp_path):
    write_mp4(
        tmp_path / "a.mp4", np.full((3, 32, 32, 3), 90, np.uint8), 10, np.full((1, 4800), 0.25, np.float32), 16_000
    )
    clip = Clip("a", 6, video=tmp_path / "a.mp4")
    assert masks(decode_clip(clip, spec())) == {"visual": [0] * 6, "audio": [0] * 6}
    found = decode_clip(clip, spec(short_clip="repeat"))
    assert masks(found) == {"visual": [1] * 6, "audio": [1] * 6}
    assert found.frames[:, 4, 4, 0] == pytest.approx([90] * 6, abs=4)
    assert all(np.array_equal(found.samples[0], segment) and segment.any() for segment in found.samples)
    assert found.provenance["frames_note"] == "ends early: 6 x the last frame repeated"
    with pytest.raises(InputRejected, match="its pictures end after less than half a segment, of 6"):
        decode_clip(clip, spec(short_clip="reject"))


@pytest.mark.parametrize("lacking", [0.1, 0.9])
def test_a_file_of_less_than_half_a_segment_is_stored_as_it_is(tmp_path, lacking):
    """Masked, since it does not count as a segment of sound, and no silence."""
    soundfile.write(tmp_path / "a.wav", np.full(round((0.5 - lacking / 2) * 16_000), 0.25), 16_000)
    clip = Clip("a", 2, audio=tmp_path / "a.wav")
    usual = decode_clip(clip, spec(frames=False, missing_audio="silence"))
    assert masks(usual) == {"audio": [0, 0]}
    assert (usual.samples[0] == 8192).sum() == round((0.5 - lacking / 2) * 16_000)
    assert usual.provenance["audio"].startswith("soundfile")
    repeated = decode_clip(clip, spec(frames=False, short_clip="repeat"))
    assert masks(repeated) == {"audio": [1, 1]}
    assert np.array_equal(repeated.samples, [usual.samples[0]] * 2)
    with pytest.raises(InputRejected, match="its sound ends after less than half"):
        decode_clip(clip, spec(frames=False, short_clip="reject"))


def test_silence_stands_in_for_a_track_that_is_not_there(silent):
    clip = decode_clip(Clip("a", 2, video=silent), spec(missing_audio="silence"))
    assert masks(clip) == {"visual": [1, 1], "audio": [0, 0]}
    assert clip.samples.shape == (2, 16_000)
    assert not clip.samples.any()
    assert clip.provenance["audio_note"] == "no audio track: silence stands in"
    alone = decode_clip(Clip("a", 2, video=silent), spec(frames=False, missing_audio="silence", short_clip="reject"))
    assert masks(alone) == {"audio": [0, 0]}


def test_grey_frames_stand_in_for_pictures_that_are_not_there(blind):
    for clip in (Clip("a", 2, video=blind), Clip("a", 2, audio=blind)):
        found = decode_clip(clip, spec(missing_video="blank"))
        assert masks(found) == {"visual": [0, 0], "audio": [1, 1]}
        assert np.unique(found.frames).tolist() == [128]
        with pytest.raises(InputRejected, match=r"no video track|sound alone") as caught:
            decode_clip(clip, spec())
        assert "--missing-video" in caught.value.hint


def test_what_is_named_and_not_there_is_no_policy_s_business(blind, silent, tmp_path):
    both = spec(missing_audio="silence", missing_video="blank")
    with pytest.raises(InputRejected, match="no such file"):
        decode_clip(Clip("a", 2, video=silent, audio=tmp_path / "gone.wav"), both)
    with pytest.raises(InputRejected, match="no such file"):
        decode_clip(Clip("a", 2, video=tmp_path / "gone.mp4", audio=blind), both)
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "1.png")
    pictures = Clip("a", 1, frames=(tmp_path / "1.png",))
    assert masks(decode_clip(pictures, both)) == {"visual": [1], "audio": [0]}
    with pytest.raises(InputRejected, match="pictures alone"):
        decode_clip(pictures, spec())


@pytest.mark.parametrize("modality", ["frames", "audio"])
def test_a_clip_with_neither_is_refused_whatever_the_policy(modality):
    wanted = spec(
        frames=modality == "frames", audio=modality == "audio", missing_audio="silence", missing_video="blank"
    )
    with pytest.raises(InputRejected, match="neither a video nor"):
        decode_clip(Clip("a", 2), wanted)


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checksum_is_compared_before_anything_is_decoded(short, blind):
    known = ((short, digest(short)),)
    assert decode_clip(Clip("a", 3, video=short, sha256=known), spec()).provenance["sha256"] == "video"
    wrong = Clip("a", 3, video=short, sha256=((short, digest(blind)),))
    with pytest.raises(InputRejected, match=f"{digest(short)[:16]}.*{digest(blind)[:16]}") as caught:
        decode_clip(wrong, spec())
    assert caught.value.stage == "probe"
    assert "--retry" in caught.value.hint
    both = Clip("a", 2, video=short, audio=blind, sha256=(*known, (blind, digest(blind))))
    assert decode_clip(both, spec()).provenance["sha256"] == "audio, video"


def test_only_what_is_read_is_compared(short, blind):
    clip = Clip("a", 2, video=short, audio=blind, sha256=((short, "0" * 64), (blind, digest(blind))))
    assert decode_clip(clip, spec(frames=False)).provenance["sha256"] == "audio"
    with pytest.raises(InputRejected, match=r"a\.mp4: its SHA-256"):
        decode_clip(clip, spec(audio=False))
    assert "sha256" not in decode_clip(Clip("a", 2, video=short), spec()).provenance


def test_two_checksums_of_one_file_must_both_hold(short):
    clip = Clip("a", 2, video=short, sha256=((short, digest(short)), (short, "0" * 64)))
    with pytest.raises(InputRejected, match="should be 0000"):
        decode_clip(clip, spec())


@pytest.mark.parametrize(("kind", "names"), [("video", (b"avc1",)), ("audio", (b"mp4a", b"esds"))])
def test_a_track_that_cannot_be_read_is_not_missing(short, tmp_path, kind, names):
    data = short.read_bytes()
    for name in names:
        assert name in data
        data = data.replace(name, b"zzzz")
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(InputRejected, match=f"its {kind} track cannot be read"):
        decode_clip(Clip("a", 3, video=tmp_path / "a.mp4"), spec(missing_audio="silence", missing_video="blank"))
