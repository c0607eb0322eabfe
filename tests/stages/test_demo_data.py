import fcntl
import signal
import subprocess
import sys
import time
from collections import Counter

import av
import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.datasets import load_dataset, read_mask
from avpipe.pipeline.errors import UsageError
from avpipe.stages.demo import ave, avsbench, ms3
from avpipe.stages.demo.generate import LAYOUTS, make_demo
from avpipe.stages.demo.kinds import KINDS
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import covers


def seen_and_heard(scene, time_seconds):
    return {a.kind for a in scene.actors if covers(a.visible, time_seconds) and covers(a.sounding, time_seconds)}


def seen(scene, time_seconds):
    return {a.kind for a in scene.actors if covers(a.visible, time_seconds)}


def heard(scene, time_seconds):
    return {a.kind for a in scene.actors if covers(a.sounding, time_seconds)}


def _within(inner, outer):
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["ave", "avsbench-ms3"])
def made(request, tmp_path_factory):
    """Name, root and plan of a small demo dataset."""
    out = tmp_path_factory.mktemp("demo") / request.param
    assert make_demo(request.param, out, seed=3, clips=4, workers=1)
    return request.param, out, LAYOUTS[request.param].plan(3, 4)


@pytest.mark.parametrize("layout", [ave, ms3])
def test_plan_depends_on_the_seed_alone(layout):
    assert layout.plan(0, 30) == layout.plan(0, 30)
    assert layout.plan(0, 30).annotations != layout.plan(1, 30).annotations


@pytest.mark.parametrize("layout", [ave, ms3])
def test_names_are_different_and_some_start_with_a_dash(layout):
    names = [clip.name for clip in layout.plan(0, layout.LAYOUT.clips).clips]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("-") for name in names) >= 5
    assert any(not name.startswith("-") for name in names)
    if layout is ms3:  # an id of eleven characters alone, or with the number of a clip
        assert {len(name) for name in names} == {11, 13, 14}
    else:
        assert {len(name) for name in names} == {11}


@pytest.mark.parametrize(("layout", "sizes"), [(ave, (180, 60, 60)), (ms3, (54, 18, 18))])
def test_default_splits(layout, sizes):
    clips = layout.plan(0, layout.LAYOUT.clips).clips
    assert Counter(clip.split for clip in clips) == dict(zip(("train", "val", "test"), sizes, strict=True))


def test_ave_label_is_what_is_both_seen_and_heard():
    plan = ave.plan(5, 120)
    rows = [line.split("&") for line in plan.annotations["AVE_Dataset/Annotations.txt"].splitlines()[1:]]
    events = {name: (kind, int(start), int(end)) for kind, name, _, start, end in rows}
    assert len(events) == 120
    for clip in plan.clips:
        label, start, end = events[clip.name]
        for second in range(ave.SECONDS):
            expected = {label} if start <= second < end else set()
            for part in (0.02, 0.5, 0.98):
                assert {ave.CLASSES[kind] for kind in seen_and_heard(clip.scene, second + part)} == expected


def test_ave_classes_are_balanced_in_every_split():
    for split in ("train", "val", "test"):
        lines = ave.plan(0, 120).annotations[f"AVE_Dataset/{split}Set.txt"].splitlines()
        counts = Counter(line.split("&")[0] for line in lines)
        assert set(counts) == set(ave.CLASSES.values())
        assert max(counts.values()) - min(counts.values()) <= 1


def test_neither_modality_alone_tells_the_ave_label():
    events, choices_seen, choices_heard, decoyed_background, background = 0, 0, 0, 0, 0
    half = {"seen": 0, "heard": 0}  # clips whose event's object is also seen unheard, or heard unseen
    for clip in ave.plan(0, 120).clips:
        (main,) = (actor for actor in clip.scene.actors if actor.visible and actor.sounding)
        half["seen"] += not _within(main.visible[0], main.sounding[0])
        half["heard"] += not _within(main.sounding[0], main.visible[0])
        for second in range(ave.SECONDS):
            sight, sound = seen(clip.scene, second + 0.5), heard(clip.scene, second + 0.5)
            if sight & sound:
                events += 1
                choices_seen += len(sight) > 1
                choices_heard += len(sound) > 1
            else:
                background += 1
                decoyed_background += bool(sight) or bool(sound)
    assert min(half.values()) > 0.25 * 120
    assert choices_seen > 0.4 * events
    assert choices_heard > 0.3 * events
    assert decoyed_background > 0.7 * background
    assert 0.25 < background / (background + events) < 0.45


def test_ms3_scenes_hold_what_makes_them_hard():
    scenes = [clip.scene for clip in ms3.plan(0, 60).clips]
    seconds = [(scene, second + avsbench.FRAME_POSITION) for scene in scenes for second in range(avsbench.SECONDS)]
    sounding = Counter(len(seen_and_heard(*when)) for when in seconds)
    assert set(sounding) == {0, 1, 2}
    assert min(sounding.values()) > 0.1 * len(seconds)
    assert sum(bool(seen(*when) - heard(*when)) for when in seconds) > 0.4 * len(seconds)  # mute objects
    assert sum(bool(heard(*when) - seen(*when)) for when in seconds) > 0.05 * len(seconds)  # off-screen sounds
    assert {len({a.kind for a in scene.actors if a.visible}) for scene in scenes} == {1, 2, 3}
    assert all(any(avsbench.sources(scene, second) for second in range(avsbench.SECONDS)) for scene in scenes)


def test_ms3_mask_is_where_the_sounding_objects_are_seen():
    for clip in ms3.plan(1, 6).clips:
        camera = Camera(clip.scene)
        for second in range(avsbench.SECONDS):
            picture, owners = camera.picture(second + avsbench.FRAME_POSITION)
            mask = avsbench.mask(clip.scene, owners, second)
            assert picture.shape == (avsbench.SIDE, avsbench.SIDE, 3)
            on = {clip.scene.actors[owner - 1].kind for owner in np.unique(owners[mask == 255])}
            off = {clip.scene.actors[owner - 1].kind for owner in np.unique(owners[mask == 0]) if owner}
            assert on == seen_and_heard(clip.scene, second + avsbench.FRAME_POSITION)
            assert not on & off


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("pitch", [0.84, 1.19])
def test_every_sound_is_finite_and_heard_in_every_second(kind, pitch):
    time_seconds = np.arange(160_000, dtype=np.float32) / 16_000
    wave = KINDS[kind].voice(time_seconds, pitch, 0.85, np.random.default_rng(0))
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    loudness = np.sqrt(np.mean(wave.reshape(10, -1) ** 2, axis=1))
    assert loudness.min() > 0.5 * loudness.max() > 0


def test_soundtrack_follows_the_plan():
    quiet, loud = [], []
    for clip in ave.plan(2, 12).clips:
        sound = soundtrack(clip.scene, 16_000)
        assert sound.shape == (160_000,)
        assert np.abs(sound).max() <= 0.95
        for second, part in enumerate(sound.reshape(10, -1)):
            level = float(np.sqrt(np.mean(part**2))) / clip.scene.hiss
            (loud if heard(clip.scene, second + 0.5) else quiet).append(level)
    assert max(quiet) < 1.05
    assert min(loud) > 1.2


def test_made_data_load_without_notes(made):
    name, root, plan = made
    dataset = load_dataset(name, root)
    assert dataset.notes == ()
    assert sorted(clip.id.removeprefix("ms3/") for clip in dataset.clips) == sorted(clip.name for clip in plan.clips)
    assert {sample.split for sample in dataset.samples} == {"train", "val", "test"}
    assert all(path.is_file() for clip in dataset.clips for path in clip.media())
    assert dataset.backbones["visual"]["model"] == "test_vit"
    assert dataset.backbones["audio"]["weights"] == "demo"


def test_made_videos_are_h264_and_aac_of_full_length(made):
    name, root, _ = made
    seconds, frames = (10, 150) if name == "ave" else (5, 80)
    for clip in load_dataset(name, root).clips:
        with av.open(str(clip.video)) as file:
            assert (file.streams.video[0].codec_context.name, file.streams.audio[0].codec_context.name) == (
                "h264",
                "aac",
            )
            assert abs(file.duration / 1e6 - seconds) < 0.15
            assert sum(1 for _ in file.decode(video=0)) == frames


@pytest.mark.parametrize("made", ["avsbench-ms3"], indirect=True)
def test_made_frames_are_those_of_the_video_and_masks_are_binary(made):
    name, root, plan = made
    dataset = load_dataset(name, root)
    scenes = {f"ms3/{clip.name}": clip.scene for clip in plan.clips}
    for clip, sample in zip(dataset.clips, dataset.samples, strict=True):
        with av.open(str(clip.video)) as file:
            video = {float(frame.time): frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)}
        for second in range(5):
            picture = np.asarray(Image.open(clip.frames[second])).astype(int)
            near, far = (np.abs(picture - video[second + t]).mean() for t in (15 / 16, 5 / 16))
            assert near < far
            assert near < 12
            assert set(np.unique(np.asarray(Image.open(sample.masks[second])))) <= {0, 255}
            expected = seen_and_heard(scenes[clip.id], second + 15 / 16)
            assert read_mask(sample.masks[second]).any() == bool(expected)


def test_same_seed_gives_the_same_files_whatever_the_workers(made, tmp_path):
    name, root, _ = made
    make_demo(name, tmp_path / name, seed=3, clips=4, workers=2)
    again = files_of(tmp_path / name)
    assert again == files_of(root)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_complete_root_is_left_alone(made):
    name, root, _ = made
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert not make_demo(name, root, seed=3, clips=4)
    with pytest.raises(UsageError, match=r"seed 3 there, 4 asked; clips 4 there, 5 asked"):
        make_demo(name, root, seed=4, clips=5)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_other_peoples_folders_are_never_touched(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="in the way and is no demo data"):
        make_demo("ave", mine, clips=3)
    with pytest.raises(UsageError, match="in the way and is no demo data"):
        make_demo("ave", mine / "thesis.txt", clips=3)
    mine.rename(tmp_path / ".other.making")
    with pytest.raises(UsageError, match="in the way and is no unfinished demo data"):
        make_demo("ave", tmp_path / "other", clips=3)
    assert (tmp_path / ".other.making" / "thesis.txt").read_text() == "years of work"


def test_killed_run_leaves_no_root_and_the_next_one_makes_it(tmp_path):
    out = tmp_path / "avsbench"
    code = (
        "from pathlib import Path; from avpipe.stages.demo.generate import make_demo; "
        f"make_demo('avsbench', Path({str(out)!r}), clips=200, workers=1)"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".avsbench.making/*/**/raw_videos/*.mp4")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(UsageError, match="another process is making demo data"):
            make_demo("avsbench", out, clips=3)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not out.exists()
    assert make_demo("avsbench", out, clips=3, workers=1)
    assert list(tmp_path.iterdir()) == [out]
    assert len(list(out.rglob("*.mp4"))) == 3


def test_interrupted_run_does_not_write_the_clips_that_were_waiting(tmp_path):
    """The signal goes to the process alone, as from `kill -INT`; a terminal would send it to the workers as well."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from avpipe.stages.demo.generate import make_demo\n"
        "if __name__ == '__main__':\n"
        f"    make_demo('avsbench-s4', Path({str(tmp_path / 'avsbench')!r}), clips=30, workers=2)\n"
    )
    (tmp_path / "make.py").write_text(code)
    child = subprocess.Popen([sys.executable, str(tmp_path / "make.py")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("*.mp4")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(120) != 0
    finally:
        child.kill()
        child.wait()
    assert 0 < len(list(tmp_path.rglob("*.mp4"))) < 15  # those begun, and few that wait in the workers' queue
    assert not (tmp_path / "avsbench").exists()


def test_lock_is_free_again_after_an_error(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("avpipe.stages.demo.generate._write_overrides", fail)
        with pytest.raises(OSError, match="disk full"):
            make_demo("avsbench", tmp_path / "demo", clips=3, workers=1)
    assert not (tmp_path / "demo").exists()
    with (tmp_path / ".demo.making" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("avsbnch", {}), "'avsbnch': did you mean 'avsbench'"),
        (("ave", {"clips": 2}), "2 demo clips"),
        (("ave", {"seed": -1}), "seed -1 is negative"),
    ],
)
def test_bad_requests(tmp_path, arguments, says):
    name, options = arguments
    with pytest.raises(UsageError, match=says):
        make_demo(name, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []
