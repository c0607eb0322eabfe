"""Demo data of S4: the layout on disk, one object that sounds, silent ones beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import soundfile
from PIL import Image

from avpipe.pipeline.datasets import load_dataset, manifest_of, read_mask
from avpipe.stages.demo import s4
from avpipe.stages.demo.avsbench import FRAME_POSITION, SECONDS, sources
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.demo.kinds import KINDS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Root and plan of four clips: two for training, one for validation, one for testing."""
    out = tmp_path_factory.mktemp("demo") / "avsbench"
    assert make_demo("avsbench-s4", out, seed=3, clips=4, workers=1)
    return out, s4.plan(3, 4)


def test_plan_depends_on_the_seed_alone():
    assert s4.plan(0, 30) == s4.plan(0, 30)
    assert s4.plan(0, 30).annotations != s4.plan(1, 30).annotations


def test_categories_are_official_and_kinds_are_known():
    assert set(s4.CATEGORIES.values()) <= set(manifest_of("avsbench-s4")["categories"])
    assert set(s4.CATEGORIES) <= set(KINDS)


def test_table_is_as_the_real_one():
    plan = s4.plan(0, 60)
    assert list(plan.annotations) == ["Single-source/s4_meta_data.csv"]
    header, *lines = plan.annotations["Single-source/s4_meta_data.csv"].splitlines()
    assert header == "name,start,category,split"
    rows = {name: (int(start), category, split) for name, start, category, split in (r.split(",") for r in lines)}
    assert len(rows) == 60
    assert {len(name) for name in rows} == {11}
    assert 5 <= sum(name.startswith("-") for name in rows) < 60
    assert {start for start, _, _ in rows.values()} == set(range(7))
    assert Counter(split for *_, split in rows.values()) == {"train": 36, "val": 12, "test": 12}
    for split in ("train", "val", "test"):
        counts = Counter(category for _, category, of in rows.values() if of == split)
        assert set(counts) == set(s4.CATEGORIES.values())
        assert max(counts.values()) - min(counts.values()) <= 1
    assert {clip.name: (clip.group, clip.split) for clip in plan.clips} == {n: r[1:] for n, r in rows.items()}


def test_one_object_sounds_and_the_picture_alone_does_not_tell_which():
    decoys, empty, seen_silent = 0, 0, Counter()
    plan = s4.plan(0, 60)
    for clip in plan.clips:
        (source,) = (actor for actor in clip.scene.actors if actor.sounding)
        assert s4.CATEGORIES[source.kind] == clip.group
        assert sources(clip.scene, 0) == [source]
        assert all(actor.visible == ((0.0, float(SECONDS)),) for actor in clip.scene.actors)
        silent = [actor.kind for actor in clip.scene.actors if not actor.sounding]
        assert source.kind not in silent
        decoys += bool(silent)
        seen_silent.update(silent)
        empty += sum(not sources(clip.scene, second) for second in range(SECONDS))
    assert decoys > 0.6 * len(plan.clips)
    assert set(seen_silent) == set(s4.CATEGORIES)
    assert 0 < empty < 0.2 * SECONDS * len(plan.clips)


def test_files_on_disk_are_those_of_the_layout(made):
    out, plan = made
    expected = {"avpipe.yaml", "Single-source/s4_meta_data.csv"}
    for clip in plan.clips:
        place = f"{clip.split}/{clip.group}"
        expected |= {f"Single-source/s4_data/raw_videos/{place}/{clip.name}.mp4"}
        expected |= {f"Single-source/s4_data/audio_wav/{place}/{clip.name}.wav"}
        numbers = range(1, 6)
        expected |= {f"Single-source/s4_data/visual_frames/{place}/{clip.name}/{clip.name}_{k}.png" for k in numbers}
        numbers = range(1, 2 if clip.split == "train" else 6)
        expected |= {f"Single-source/s4_data/gt_masks/{place}/{clip.name}/{clip.name}_{k}.png" for k in numbers}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected


def test_made_data_load_without_notes_and_masks_are_where_the_source_is(made):
    out, plan = made
    dataset = load_dataset("avsbench-s4", out)
    assert dataset.notes == ()
    scenes = {f"s4/{clip.name}": clip for clip in plan.clips}
    assert set(scenes) == {clip.id for clip in dataset.clips}
    for clip, sample in zip(dataset.clips, dataset.samples, strict=True):
        scene = scenes[clip.id].scene
        assert soundfile.info(str(clip.audio)).samplerate == 16_000
        (source,) = (actor for actor in scene.actors if actor.sounding)
        for second, (frame, path) in enumerate(zip(clip.frames, sample.masks, strict=True)):
            assert Image.open(frame).size == (224, 224)
            if path is None:
                assert (sample.split, second > 0) == ("train", True)
                continue
            assert set(np.unique(np.asarray(Image.open(path)))) <= {0, 255}
            mask = read_mask(path)
            assert mask.any() == bool(sources(scene, second))
            if mask.any():  # around the place where the source is then
                x, y = source.body.position(second + FRAME_POSITION)
                rows, columns = np.nonzero(mask)
                assert np.hypot(columns / 224 - x, rows / 224 - y).max() < source.body.radius * 1.3
