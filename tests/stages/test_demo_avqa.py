"""Demo data of MUSIC-AVQA: the layout, the questions, and answers that are true to pictures and sound."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.stages.demo import avqa
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.demo.instruments import CAST, INSTRUMENTS, NOTES_PER_SECOND, VOICE
from avpipe.stages.demo.players import Facts
from avpipe.stages.demo.questions import TEMPLATES
from avpipe.stages.demo.render import Camera, soundtrack

SHARED = Path(__file__).parents[3] / "shared" / "annotations" / "music_avqa"
NUMBERS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4}
RATE = 4_000
"""Samples a second of sounds that are only compared with each other here."""


def rows_of(plan):
    return {split: json.loads(plan.annotations[f"json_update/avqa-{split}.json"]) for split in ("train", "val", "test")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Root and plan of three videos, one for each split; they are indoors and outdoors, and one has a voice."""
    out = tmp_path_factory.mktemp("demo") / "music-avqa"
    assert make_demo("music-avqa", out, seed=7, clips=3, workers=1)
    return out, avqa.plan(7, 3)


def test_plan_depends_on_the_seed_alone():
    assert avqa.plan(0, 12) == avqa.plan(0, 12)
    assert avqa.plan(0, 12).annotations != avqa.plan(1, 12).annotations
    assert avqa.plan(0, 12).clips[0].scene != avqa.plan(1, 12).clips[0].scene


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real annotations here")
def test_templates_are_those_of_the_dataset():
    with gzip.open(SHARED / "json_update" / "avqa-test.json.gz") as file:
        real = json.load(file)
    texts = {(tuple(json.loads(row["type"])), row["question_content"]) for row in real}
    assert texts == {(kind, text) for kind, templates in TEMPLATES.items() for text in templates}
    found = [row for rows in rows_of(avqa.plan(0, 100)).values() for row in rows]
    assert {row["question_content"] for row in found} == {row["question_content"] for row in real}
    assert list(found[0]) == list(real[0])
    for placeholder in ("LR", "FL", "TH", "LRer", "LL", "BA"):
        assert set(values_of(found, placeholder)) <= set(values_of(real, placeholder))


def values_of(rows, placeholder):
    for row in rows:
        names = re.findall(r"<(\w+)>", row["question_content"])
        for name, value in zip(names, json.loads(row["templ_values"]), strict=True):
            if name == placeholder:
                yield value


@pytest.mark.parametrize("seed", range(3))
def test_questions_are_dealt_as_in_the_dataset(seed):
    plan = avqa.plan(seed, avqa.LAYOUT.clips)
    rows = rows_of(plan)
    numbers = [row["question_id"] for of in rows.values() for row in of]
    assert sorted(numbers) == list(range(len(numbers)))
    videos = {split: {row["video_id"] for row in of} for split, of in rows.items()}
    assert set.union(*videos.values()) == {clip.name for clip in plan.clips}
    assert videos["val"] & videos["test"]  # shared, as there
    assert videos["val"] != videos["test"]
    assert not videos["train"] & (videos["val"] | videos["test"])
    for of in rows.values():
        assert len({row["type"] for row in of}) == 9
        assert [row["question_id"] for row in of] == sorted(row["question_id"] for row in of)
        for row in of:
            assert re.fullmatch(r"\d{8}", row["video_id"])
            assert row["question_deleted"] == 0
            assert len(json.loads(row["templ_values"])) == len(re.findall("<", row["question_content"]))
    assert max(Counter(row["video_id"] for of in rows.values() for row in of).values()) > 5


def test_yes_is_no_safe_guess_and_one_modality_does_not_tell_the_other():
    plan = avqa.plan(0, 100)
    rows = [row for of in rows_of(plan).values() for row in of]
    for text in {row["question_content"] for row in rows if row["anser"] in ("yes", "no")}:
        counts = Counter(row["anser"] for row in rows if row["question_content"] == text)
        assert set(counts) == {"yes", "no"}
        if sum(counts.values()) > 20:
            assert max(counts.values()) < 0.85 * sum(counts.values())
    facts = [Facts(clip.scene, clip.group) for clip in plan.clips]
    assert 0.15 * 100 < sum(bool(one.hidden) for one in facts) < 0.6 * 100
    assert 0.15 * 100 < sum(any(not player.heard for player in one.seen) for one in facts) < 0.6 * 100
    assert all(one.heard for one in facts)


class Media:
    """What can be seen and heard in a scene, worked out from pictures and sounds, each actor's alone."""

    def __init__(self, clip):
        scene = clip.scene
        instruments = [actor for actor in scene.actors if actor.kind != VOICE]
        self.names = [actor.kind for actor in instruments]
        self.paces = [NOTES_PER_SECOND[actor.kind] * actor.sound.pace for actor in instruments]
        self.places, self.levels, self.on = [], [], []
        for actor in instruments:
            alone = replace(scene, actors=(actor,), hiss=0.0)
            owners = Camera(alone, CAST).picture(30.0)[1]
            columns = np.nonzero(owners)[1]
            third = int(3 * columns.mean() / scene.width) if len(columns) else None
            self.places.append(None if third is None else ("left", "middle", "right")[third])
            power = np.mean(soundtrack(alone, RATE, CAST).reshape(avqa.SECONDS, -1) ** 2, axis=1)
            self.on.append(power > 1e-5)
            self.levels.append(np.sqrt(power[power > 1e-5].mean()) if power.any() else 0.0)
        self.voice = any(actor.kind == VOICE and actor.sounding for actor in scene.actors)

    def which(self, name=None, place=None):
        """The only instrument that is heard of a name, or at a place."""
        (found,) = (i for i in self.heard() if name in (self.names[i], None) and place in (self.places[i], None))
        return found

    def start(self, index):
        return int(np.flatnonzero(self.on[index])[0])

    def heard(self):
        return [i for i, on in enumerate(self.on) if on.any()]

    def seen(self):
        return [i for i, place in enumerate(self.places) if place]


def expected(media, text, values):
    """The answer to a question, or None for templates that are not worked out here."""
    seen, heard, names = media.seen(), media.heard(), media.names
    heard_names, seen_names = {names[i] for i in heard}, [names[i] for i in seen]
    first = min(heard, key=media.start)
    truth = None
    if "sound?" in text:
        truth = set(values) <= heard_names
    elif "Is there a <Object> in" in text or ("instruments in the video?" in text and "<Object>" in text):
        truth = set(values) <= set(seen_names)
    elif "voiceover" in text:
        truth = media.voice
    elif "always playing" in text:
        (index,) = (i for i in seen if names[i] == values[0])
        truth = media.on[index].all()
    elif "louder" in text or "rhythmic" in text or "longer" in text:
        truth = compare(media, text, values)
    elif "sound coming from" in text and values[0] == "first":
        truth = media.places[first] == values[1]
    if truth is not None:
        return "yes" if truth else "no"
    if "did not sound" in text:
        return sum(not media.on[i].any() for i in seen)
    if "were heard" in text:
        return len(heard)
    if "How many types" in text:
        return len(heard_names if "sound in" in text else set(seen_names))
    if "How many sounding" in text:
        return sum(names[i] == values[0] and media.on[i].any() for i in seen)
    if "How many <Object> are" in text:
        return seen_names.count(values[0])
    if text == "Where is the <LL> instrument?":
        return media.places[max(heard, key=lambda i: media.levels[i])]
    if text == "What is the <TH> instrument that comes in?":
        nth = ("first", "second", "third", "fourth").index(values[0])
        return names[sorted(heard, key=media.start)[nth]]
    if text == "Where is the <FL> sounding instrument?" and values[0] == "first":
        return media.places[first]
    if "at the same time" in text:
        one = next(i for i in heard if names[i] == values[0])
        (name,) = {names[i] for i in heard if i != one and (media.on[i] & media.on[one]).any()}
        return name
    if "<LRer>" in text:
        ends = sorted(seen, key=lambda i: ("left", "middle", "right").index(media.places[i]))
        return names[ends[0 if values[0] == "leftest" else -1]]
    return None


def compare(media, text, values):
    if text.count("<") == 2:
        one, other = (media.which(**{"name" if "<Object>" in text else "place": value}) for value in values)
    else:
        one, other = (media.which(*values[place : place + 2]) for place in (0, 2))
    if "rhythmic" in text:
        return media.paces[one] > media.paces[other]
    if "longer" in text:
        return media.on[one].sum() > media.on[other].sum()
    return media.levels[one] > media.levels[other]


def test_answers_are_true():
    plan = avqa.plan(4, 10)
    media = {clip.name: Media(clip) for clip in plan.clips}
    checked = set()
    for row in (row for of in rows_of(plan).values() for row in of):
        text, values = row["question_content"], json.loads(row["templ_values"])
        answer = expected(media[row["video_id"]], text, values)
        if answer is not None:
            assert answer == NUMBERS.get(row["anser"], row["anser"]), (row, vars(media[row["video_id"]]))
            checked.add(text)
    assert len(checked) > 18


def test_every_instrument_is_heard_in_each_second_and_as_loud_as_its_level():
    time_seconds = np.arange(5 * 16_000, dtype=np.float32) / 16_000
    for name, kind in CAST.items():
        for pitch, pace in ((0.84, 0.85), (1.19, 1.2)):
            wave = kind.voice(time_seconds, pitch, pace, np.random.default_rng(0))
            assert wave.dtype == np.float32
            loudness = np.sqrt(np.mean(wave.reshape(5, -1) ** 2, axis=1))
            assert loudness.min() > 0.5 * loudness.max() > 0, name
            assert np.abs(wave).max() < 5.8 * np.sqrt(np.mean(wave**2)), name  # a higher peak would lower the level


def test_instruments_and_answers_are_those_of_the_dataset():
    classes = manifest_of("music-avqa")["classes"]
    assert set(INSTRUMENTS) == set(NOTES_PER_SECOND)
    assert set(INSTRUMENTS) <= set(classes)
    assert {row["anser"] for rows in rows_of(avqa.plan(0, 60)).values() for row in rows} <= set(classes)


def test_made_data_load_without_notes(made):
    out, plan = made
    dataset = load_dataset("music-avqa", out)
    assert (dataset.task, dataset.notes) == ("qa", ())
    assert sorted(clip.id for clip in dataset.clips) == sorted(clip.name for clip in plan.clips)
    assert all(path.is_file() for clip in dataset.clips for path in clip.media())
    asked = [(s.split, s.clip, s.question.template, dataset.classes[s.question.answer]) for s in dataset.samples]
    assert sorted(asked) == sorted(
        (split, row["video_id"], row["question_content"], row["anser"])
        for split, rows in rows_of(plan).items()
        for row in rows
    )
    assert not make_demo("music-avqa", out, seed=7, clips=3)


def test_files_on_disk_and_what_is_in_them(made):
    out, plan = made
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"avpipe.yaml", *plan.annotations, *(f"video/{clip.name}.mp4" for clip in plan.clips)}
    assert {clip.group for clip in plan.clips} == {"indoor", "outdoor"}
    for clip in plan.clips:
        with av.open(str(out / "video" / f"{clip.name}.mp4")) as file:
            assert abs(file.duration / 1e6 - avqa.SECONDS) < 0.2
            pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert len(pictures) == avqa.SECONDS * avqa.FRAMES_PER_SECOND
        with av.open(str(out / "video" / f"{clip.name}.mp4")) as file:
            assert (file.streams.audio[0].rate, file.streams.audio[0].channels) == (avqa.SAMPLE_RATE, 1)
            sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        check_what_is_heard(clip.scene, sound)
        red, _, blue = pictures[0][:20].mean(axis=(0, 1))  # the sky or a wall
        assert (blue > red) == (clip.group == "outdoor")
        check_what_is_seen(clip, pictures)


def check_what_is_heard(scene, sound):
    """Compares the level of each second with that of all sounds, made one by one."""
    alone = [replace(scene, actors=(actor,), hiss=0.0) for actor in scene.actors]
    mix = sum(soundtrack(one, avqa.SAMPLE_RATE, CAST) for one in alone)
    mix *= min(1, 0.95 / np.abs(mix).max())
    made, wanted = (np.mean(wave[: len(mix)].reshape(avqa.SECONDS, -1) ** 2, axis=1) for wave in (sound, mix))
    np.testing.assert_allclose(np.sqrt(made), np.sqrt(wanted + scene.hiss**2), rtol=0.06)


def check_what_is_seen(clip, pictures):
    """Compares a decoded picture with that of the empty stage."""
    behind = avqa.backdrop(clip.group, np.random.default_rng([clip.scene.seed, 3]))
    empty = Camera(replace(clip.scene, actors=()), CAST, behind).picture(30.0)[0]
    owners = Camera(clip.scene, CAST, behind).picture(30.0)[1]
    change = np.abs(pictures[30 * avqa.FRAMES_PER_SECOND].astype(int) - empty).mean(axis=2)
    assert change[owners == 0].mean() < 15
    for index, actor in enumerate(clip.scene.actors, start=1):
        assert (owners == index).any() == bool(actor.visible)
        assert not actor.visible or change[owners == index].mean() > 30


def test_the_same_clip_gives_the_same_file(made, tmp_path):
    clip = made[1].clips[0]
    clip = replace(clip, scene=replace(clip.scene, seconds=3))
    for folder in ("one", "two"):
        avqa.write(tmp_path / folder, clip)
    one, two = (tmp_path / folder / "video" / f"{clip.name}.mp4" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    avqa.write(tmp_path / "two", replace(clip, scene=replace(clip.scene, seed=clip.scene.seed + 1)))
    assert one.read_bytes() != two.read_bytes()
