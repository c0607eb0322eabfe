"""Demo data of LLP: tables as the real ones, labels that are true to pictures and sound."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace

import av
import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.stages.demo import llp
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.demo.kinds import KINDS
from avpipe.stages.demo.render import Camera
from avpipe.stages.demo.scenes import covers

WEAK = {"AVVP_train": "train", "AVVP_val_pd": "val", "AVVP_test_pd": "test"}
DENSE = {"AVVP_eval_audio": "sounding", "AVVP_eval_visual": "visible"}


def rows_of(text):
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def tables_of(plan):
    return {name.removeprefix("data/").removesuffix(".csv"): rows_of(text) for name, text in plan.annotations.items()}


def id_of(filename):
    return filename.rsplit("_", 2)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Root and plan of three clips, one for each split."""
    out = tmp_path_factory.mktemp("demo") / "llp"
    assert make_demo("llp", out, seed=5, clips=3, workers=1)
    return out, llp.plan(5, 3)


def test_plan_depends_on_the_seed_alone():
    assert llp.plan(0, 30) == llp.plan(0, 30)
    assert llp.plan(0, 30).annotations != llp.plan(1, 30).annotations
    assert llp.plan(0, 30).clips[0].scene != llp.plan(1, 30).clips[0].scene


def test_names_and_splits_are_as_the_real_ones():
    plan = llp.plan(0, llp.LAYOUT.clips)
    tables = tables_of(plan)
    assert set(tables) == {"AVVP_dataset_full", *WEAK, *DENSE}
    names = [row["filename"] for row in tables["AVVP_dataset_full"]]
    assert [id_of(name) for name in names] == [clip.name for clip in plan.clips]
    assert {len(id_of(name)) for name in names} == {11}
    assert len({id_of(name) for name in names}) == 60
    assert sum(name.startswith("-") for name in names) == 10
    assert 15 <= sum("_" in id_of(name) for name in names) < 60
    assert all(int(end) - int(start) == llp.SECONDS for _, start, end in (name.rsplit("_", 2) for name in names))
    assert [len(tables[table]) for table in WEAK] == [36, 12, 12]
    assert tables["AVVP_dataset_full"] == [row for table in WEAK for row in tables[table]]


def test_weak_labels_are_what_is_seen_or_heard_and_dense_ones_when():
    plan = llp.plan(3, 60)
    tables, clips = tables_of(plan), {clip.name: clip for clip in plan.clips}
    weak = {row["filename"]: row["event_labels"].split(",") for row in tables["AVVP_dataset_full"]}
    marked = {table: defaultdict(set) for table in DENSE}
    for table in DENSE:
        for row in tables[table]:
            seconds = range(int(row["onset"]), int(row["offset"]))
            assert seconds
            marked[table][row["filename"]] |= {(row["event_labels"], second) for second in seconds}
    for name, labels in weak.items():
        clip = clips[id_of(name)]
        assert len(set(labels)) == len(labels)
        true = {
            table: {
                (llp.CLASSES[actor.kind], second)
                for actor in clip.scene.actors
                for second in range(llp.SECONDS)
                if covers(getattr(actor, field), second) and covers(getattr(actor, field), second + 0.99)
            }
            for table, field in DENSE.items()
        }
        assert set(labels) == {label for events in true.values() for label, _ in events}
        for table in DENSE:
            assert marked[table].get(name, set()) == (set() if clip.split == "train" else true[table])


def test_scenes_hold_what_makes_parsing_hard():
    scenes = [clip.scene for clip in llp.plan(0, 100).clips]
    actors = [actor for scene in scenes for actor in scene.actors]
    counts = Counter(len(scene.actors) for scene in scenes)
    assert set(counts) == {1, 2, 3}
    modes = Counter((bool(actor.visible), bool(actor.sounding)) for actor in actors)
    assert modes[False, False] == 0
    assert min(modes[pair] for pair in ((True, True), (True, False), (False, True))) > 0.1 * len(actors)
    both = [actor for actor in actors if actor.visible and actor.sounding]
    assert 0.2 * len(both) < sum(actor.visible == actor.sounding for actor in both) < 0.8 * len(both)
    assert any(len(actor.visible) == 2 for actor in actors)  # two events of one class
    assert any(len(actor.sounding) == 2 for actor in actors)
    assert {actor.kind for actor in actors} == set(llp.CLASSES) <= set(KINDS)
    assert set(llp.CLASSES.values()) <= set(manifest_of("llp")["classes"])


def test_made_data_load_without_notes(made):
    out, plan = made
    dataset = load_dataset("llp", out)
    assert (dataset.task, dataset.notes) == ("parsing", ())
    assert [clip.source for clip in dataset.clips] == [clip.name for clip in plan.clips]
    assert all(path.is_file() for clip in dataset.clips for path in clip.media())
    scenes = {clip.name: clip.scene for clip in plan.clips}
    for clip, sample in zip(dataset.clips, dataset.samples, strict=True):
        actors = scenes[clip.source].actors
        assert sorted(dataset.classes[label] for label in sample.labels) == sorted(llp.CLASSES[a.kind] for a in actors)
        for events, field in ((sample.audio_events, "sounding"), (sample.visual_events, "visible")):
            assert (events is None) == (sample.split == "train")
            true = {(llp.CLASSES[a.kind], *interval) for a in actors for interval in getattr(a, field)}
            assert events is None or {(dataset.classes[e.class_id], e.start, e.end) for e in events} == true
    assert not make_demo("llp", out, seed=5, clips=3)


def read(video):
    with av.open(str(video)) as file:
        pictures = {float(frame.time): frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)}
    with av.open(str(video)) as file:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return pictures, sound[: llp.SECONDS * llp.SAMPLE_RATE]


def test_files_on_disk_and_what_is_in_them(made):
    out, plan = made
    videos = {f"data/LLP_dataset/video/{clip.name}.mp4" for clip in plan.clips}
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"avpipe.yaml", *plan.annotations, *videos}
    for path, text in plan.annotations.items():
        assert (out / path).read_text() == text
    for clip in plan.clips:
        pictures, sound = read(out / "data" / "LLP_dataset" / "video" / f"{clip.name}.mp4")
        levels = np.sqrt(np.mean(sound.reshape(llp.SECONDS, -1) ** 2, axis=1)) / clip.scene.hiss
        heard = [any(covers(actor.sounding, second) for actor in clip.scene.actors) for second in range(llp.SECONDS)]
        assert all(level > 1.2 if on else level < 1.2 for level, on in zip(levels, heard, strict=True))
        assert len(pictures) == llp.SECONDS * llp.FRAMES_PER_SECOND
        check_what_is_seen(clip.scene, pictures)


def check_what_is_seen(scene, pictures):
    """Compares decoded pictures with those of the empty scene, around the place where each actor would be."""
    empty = Camera(replace(scene, actors=()))
    y, x = (np.mgrid[: scene.height, : scene.width] + 0.5) / scene.height
    for time, picture in pictures.items():
        change = np.abs(picture.astype(int) - empty.picture(time)[0]).mean(axis=2)
        seen = [actor for actor in scene.actors if covers(actor.visible, time)]
        distances = [np.hypot(x - at[0], y - at[1]) for at in (actor.body.position(time) for actor in seen)]
        for actor, distance in zip(seen, distances, strict=True):
            assert change[distance < 0.6 * actor.body.radius].mean() > 20
        far = np.all([d > 1.5 * actor.body.radius for actor, d in zip(seen, distances, strict=True)], axis=0)
        assert change[far & np.ones_like(change, bool)].mean() < 12


def test_the_same_clip_gives_the_same_file(made, tmp_path):
    out, plan = made
    llp.write(tmp_path, plan.clips[0])
    path = f"data/LLP_dataset/video/{plan.clips[0].name}.mp4"
    assert (tmp_path / path).read_bytes() == (out / path).read_bytes()
