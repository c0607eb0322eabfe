"""Demo data of AVSS: the layout on disk, class ids, colours, and how they are numbered."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import soundfile
from PIL import Image

from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.demo import avss
from avpipe.stages.demo.avsbench import sources
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.demo.kinds import KINDS

COUNTS = {"v1s": 5, "v1m": 5, "v2": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Root and plan of nine clips: each part is in training."""
    out = tmp_path_factory.mktemp("demo") / "avsbench"
    assert make_demo("avsbench-avss", out, seed=3, clips=9, workers=1)
    return out, avss.plan(3, 9)


def masks_of(clip):
    return range(1 if (clip.group, clip.split) == ("v1s", "train") else COUNTS[clip.group])


def test_plan_depends_on_the_seed_alone():
    assert avss.plan(0, 30) == avss.plan(0, 30)
    assert avss.plan(0, 30).annotations != avss.plan(1, 30).annotations


def test_colours_are_the_official_ones():
    colours = avss.palette()
    assert colours.shape == (71, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 71
    by_name = dict(zip(avss.class_names(), colours.tolist(), strict=True))
    assert by_name["background"] == [0, 0, 0]
    assert by_name["accordion"] == [128, 0, 0]
    assert by_name["airplane"] == [0, 128, 0]
    assert by_name["clarinet"] == [64, 128, 128]  # seen on a real mask
    assert by_name["clock"] == [0, 64, 0]
    assert by_name["woman"] == [32, 128, 128]  # 70 = 0b1000110: red by bit 6, green by bit 1, blue by bit 2


def test_every_kind_has_an_official_class():
    assert set(avss.CLASSES) <= set(KINDS)
    assert set(avss.CLASSES.values()) <= set(avss.class_names())


def test_table_is_as_the_real_one():
    plan = avss.plan(0, 60)
    header, *lines = plan.annotations["metadata.csv"].splitlines()
    assert header == "vid,uid,s_min,s_sec,a_obj,split,label"
    rows = [line.split(",") for line in lines]
    assert Counter(row[6] for row in rows) == {"v1s": 20, "v1m": 20, "v2": 20}
    for split in ("train", "val", "test"):
        assert {row[6] for row in rows if row[5] == split} == set(COUNTS)
    for part in COUNTS:
        assert any(row[1].startswith("-") for row in rows if row[6] == part)
    scenes = {clip.name: clip.scene for clip in plan.clips}
    assert len(scenes) == 60
    for vid, uid, minutes, seconds, objects, _, part in rows:
        start = 1000 * (60 * int(minutes) + int(seconds))
        assert uid == (vid if part == "v1m" else f"{vid}_{start}_{start + 1000 * COUNTS[part]}")
        heard = [a for a in scenes[uid].actors if a.sounding]
        assert objects.split("_") == [avss.CLASSES[a.kind] if a.visible else "off-the-screen" for a in heard]
    assert any(len(row[4].split("_")) > 1 for row in rows if row[6] == "v1m")
    assert not any("_" in row[4] for row in rows if row[6] == "v1s")


def test_numbers_in_the_json_count_from_1():
    numbers = json.loads(avss.plan(0, 3).annotations["label2idx.json"])
    assert numbers["background"] == 1
    assert numbers["woman"] == len(numbers) == 71
    assert list(numbers.values()) == list(range(1, 72))


def test_several_objects_are_seen_and_not_all_sound():
    silent, several, empty, frames = 0, 0, 0, 0
    for clip in avss.plan(0, 60).clips:
        for second in range(COUNTS[clip.group]):
            sounding, seen = sources(clip.scene, second), [a for a in clip.scene.actors if a.visible]
            silent += len(seen) > len(sounding)
            several += len(sounding) > 1
            empty += not sounding
            frames += 1
    assert silent > 0.5 * frames
    assert several > 0.1 * frames
    assert 0.05 * frames < empty < 0.4 * frames


def test_files_on_disk_are_those_of_the_layout(made):
    out, plan = made
    expected = {"avpipe.yaml", "metadata.csv", "label2idx.json"}
    for clip in plan.clips:
        folder = f"{clip.group}/{clip.name}"
        expected |= {f"{folder}/frames/{k}.jpg" for k in range(COUNTS[clip.group])} | {f"{folder}/audio.wav"}
        expected |= {f"{folder}/{kind}/{k}.png" for kind in ("labels_semantic", "labels_rgb") for k in masks_of(clip)}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected


def test_masks_hold_the_id_of_what_sounds_counted_from_0(made):
    out, plan = made
    numbers = json.loads((out / "label2idx.json").read_text())
    found = set()
    for clip in plan.clips:
        folder = out / clip.group / clip.name
        for second in masks_of(clip):
            picture = Image.open(folder / "labels_semantic" / f"{second}.png")
            assert picture.mode == "L"
            ids, colours = np.asarray(picture), np.asarray(Image.open(folder / "labels_rgb" / f"{second}.png"))
            assert ids.dtype == np.uint8
            expected = {numbers[avss.CLASSES[actor.kind]] - 1 for actor in sources(clip.scene, second)}
            assert set(np.unique(ids).tolist()) - {0} == expected
            np.testing.assert_array_equal(colours, avss.palette()[ids])
            found |= expected
    assert len(found) > 3


def test_media_are_of_native_size_and_rate(made):
    out, plan = made
    sides, rates = {"v1s": (256, 256), "v1m": (256, 256), "v2": (320, 240)}, {"v1s": 16, "v1m": 16, "v2": 48}
    for clip in plan.clips:
        folder = out / clip.group / clip.name
        info = soundfile.info(str(folder / "audio.wav"))
        assert (info.channels, info.samplerate) == (2, 1000 * rates[clip.group])
        assert info.frames == round(info.samplerate * {"v1s": 5.02, "v1m": 5.02, "v2": 10}[clip.group])
        for k in range(COUNTS[clip.group]):
            with Image.open(folder / "frames" / f"{k}.jpg") as picture:
                assert (picture.format, picture.size) == ("JPEG", sides[clip.group])
            if k in masks_of(clip):
                assert Image.open(folder / "labels_semantic" / f"{k}.png").size == sides[clip.group]


def test_sound_is_on_when_the_plan_says_so(made):
    out, plan = made
    quiet, loud = [], []
    for clip in plan.clips:
        wave, rate = soundfile.read(str(out / clip.group / clip.name / "audio.wav"))
        for second in range(COUNTS[clip.group]):
            level = np.sqrt(np.mean(wave[second * rate : (second + 1) * rate, 0] ** 2)) / clip.scene.hiss
            sounding = any(a <= second + 0.5 < b for actor in clip.scene.actors for a, b in actor.sounding)
            (loud if sounding else quiet).append(level)
    assert max(quiet) < 1.1
    assert min(loud) > 1.2


def test_made_data_load_without_notes(made):
    out, plan = made
    dataset = load_dataset("avsbench-avss", out)
    assert dataset.notes == ()
    assert sorted(clip.id for clip in dataset.clips) == sorted(f"avss/{clip.name}" for clip in plan.clips)
    assert all(path.is_file() for clip in dataset.clips for path in clip.media())
    for sample, clip in zip(dataset.samples, dataset.clips, strict=True):
        assert len(sample.masks) == clip.segments
