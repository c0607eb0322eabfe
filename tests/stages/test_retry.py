"""Quarantined clips tried again with what the cache says of itself: only they, and as if they had always been sound."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import extracting
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import UnitWriter
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import InputRejected, UsageError
from avpipe.pipeline.media.decode import decode_clip
from avpipe.stages import clip_media
from avpipe.stages.extract import extract
from avpipe.stages.extract_unit import UnitRunner
from avpipe.stages.retry import _jobs, _usual_decoder, retry


class DecodeHere:
    """In place of `DecodePool`: decodes in this process, which is quick where files are harmless."""

    def __init__(self, spec, **limits):
        self._spec = spec

    def __enter__(self):
        return self

    def submit(self, clip):
        future = Future()
        try:
            future.set_result(decode_clip(clip, self._spec))
        except InputRejected as error:
            future.set_exception(error)
        return future

    def close(self):
        pass


@pytest.fixture(autouse=True)
def decode_here(monkeypatch):
    """No child process a test."""
    monkeypatch.setattr(clip_media, "DecodePool", DecodeHere)


@pytest.fixture
def broken(own_ave, tmp_path):
    """An extraction of six clips, two of them empty files; returns the cache and what mends them."""
    bad = own_ave.ids[1:3]
    content = {clip: own_ave.video(clip).read_bytes() for clip in bad}
    for clip in bad:
        own_ave.video(clip).write_bytes(b"")
    dataset = load_dataset("ave", own_ave.root)
    extract(dataset, extracting.stub_job(dataset, tmp_path / "c", "visual", "audio", layers="all"), unit_segments=20)

    def mend(*clips):
        for clip in clips:
            own_ave.video(clip).write_bytes(content[clip])

    return tmp_path / "c", mend


@pytest.fixture
def computed(monkeypatch) -> list[tuple[int, ...]]:
    """Segments that backbones were given, for each clip."""
    found: list[tuple[int, ...]] = []
    original = UnitRunner.features

    def counted(runner, media):
        found.append(tuple(len(inputs) for inputs in media.values()))
        return original(runner, media)

    monkeypatch.setattr(UnitRunner, "features", counted)
    return found


def test_a_mended_clip_alone_is_computed_and_the_cache_is_as_if_it_had_been_sound(own_ave, broken, tmp_path, computed):
    cache, mend = broken
    first, second = own_ave.ids[1:3]
    before = extracting.array_files(cache)
    computed.clear()
    mend(first, second)
    done = retry(cache, [first])
    assert [(clip.clip, clip.outcome, clip.attempts) for clip in done.clips] == [(first, "cached", 0)]
    assert computed == [(10, 10)]  # one clip of ten segments, by two backbones
    assert before.items() <= extracting.array_files(cache).items()
    assert [entry.clip for entry in open_cache(cache).quarantined()] == [second]
    assert retry(cache, [second]).count("cached") == 1
    dataset = load_dataset("ave", own_ave.root)
    extract(dataset, extracting.stub_job(dataset, tmp_path / "sound", "visual", "audio", layers="all"))
    assert open_cache(cache).content_hash() == open_cache(tmp_path / "sound").content_hash()


def test_what_is_still_broken_fails_once_more_and_says_why(own_ave, broken):
    cache, mend = broken
    first, second = own_ave.ids[1:3]
    mend(second)
    found = {clip.clip: clip for clip in retry(cache, [first, second]).clips}
    assert (found[second].outcome, found[first].outcome) == ("cached", "quarantined")
    assert (found[first].stage, found[first].attempts) == ("probe", 2)
    assert "empty" in found[first].reason


def test_a_clip_that_the_dataset_has_no_more_is_not_tried(own_ave, broken):
    cache, mend = broken
    first, second = own_ave.ids[1:3]
    mend(first, second)
    for file in (own_ave.root / "AVE_Dataset").glob("*.txt"):
        file.write_text("".join(line for line in file.read_text().splitlines(True) if first not in line))
    found = {clip.clip: clip for clip in retry(cache, [first, second]).clips}
    assert (found[first].outcome, found[first].attempts) == ("gone", 1)
    assert "the dataset has it no more" in found[first].reason
    assert found[second].outcome == "cached"
    assert [(entry.clip, entry.attempts) for entry in open_cache(cache).quarantined()] == [(first, 1)]


def test_data_that_have_moved(own_ave, broken):
    cache, mend = broken
    mend(own_ave.ids[1])
    moved = own_ave.root.rename(own_ave.root.with_name("moved"))
    for name in (None, "ave"):
        with pytest.raises(UsageError, match=f"not at {own_ave.root} any more: say where they are with --root"):
            retry(cache, own_ave.ids[1:2], name=name)
    assert retry(cache, own_ave.ids[1:2], root=moved).count("cached") == 1


def test_a_table_of_the_same_name_that_lies_here_is_never_taken_for_the_cache_s(own_ave, tmp_path, monkeypatch):
    """Not where the cache's own folder is there, and not where it is gone."""
    here, own = tmp_path / "here", tmp_path / "own"
    for folder, video in ((here, own_ave.ids[1]), (own, own_ave.ids[0])):
        folder.mkdir()
        (folder / "a.mp4").write_bytes(own_ave.video(video).read_bytes())
        (folder / "t.csv").write_text("clip,media,split,segments,events\na,a.mp4,train,2,x@0-1\n")
    content = (own / "a.mp4").read_bytes()
    (own / "a.mp4").write_bytes(b"")
    dataset = load_dataset(str(own / "t.csv"))
    extract(dataset, extracting.stub_job(dataset, tmp_path / "c", "visual", layers="blocks.0"))
    monkeypatch.chdir(here)
    assert [clip.outcome for clip in retry(tmp_path / "c", ["a"]).clips] == ["quarantined"]
    moved = own.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=f"not at {own} any more: say where they are with --root"):
        retry(tmp_path / "c", ["a"])
    (moved / "a.mp4").write_bytes(content)
    assert [clip.outcome for clip in retry(tmp_path / "c", ["a"], root=moved).clips] == ["cached"]


def test_a_clip_that_somebody_else_has_committed_meanwhile_is_cached(own_ave, broken, computed):
    cache, mend = broken
    first, second = own_ave.ids[1:3]
    mend(first)
    assert [clip.outcome for clip in retry(cache, [first, first]).clips] == ["cached"]
    computed.clear()
    done = retry(cache, [first, second]).clips
    assert [(clip.clip, clip.outcome) for clip in done] == [(first, "cached"), (second, "quarantined")]
    assert computed == []


def test_several_types_and_batches_are_several_extractions_and_one_attempt(own_ave, broken):
    cache, mend = broken
    first, second = own_ave.ids[1:3]
    dataset = load_dataset("ave", own_ave.root)
    more = extracting.stub_job(dataset, cache, "visual", layers="blocks.0,blocks.2", dtype="float32")
    extract(dataset, more)
    jobs = _jobs(open_cache(cache), dataset, {}, {"decoder": "decord", "device": "cpu", "deadline_seconds": 60.0})
    assert [(job.dtype, {m: each.taps for m, each in job.modalities.items()}) for job in jobs] == [
        ("float16", {m: tuple(f"blocks.{i}" for i in range(4)) for m in ("visual", "audio")}),
        ("float32", {"visual": ("blocks.0", "blocks.2")}),
    ]
    mend(first)
    assert [clip.outcome for clip in retry(cache, [first, second]).clips] == ["cached", "quarantined"]
    opened = open_cache(cache)
    assert first in opened.clips()  # in every array, float32 too
    assert [(entry.clip, entry.attempts) for entry in opened.quarantined()] == [(second, 2)]


def test_rejections_of_features_are_tried_with_all_layers(own_ave, tmp_path, monkeypatch):
    dataset, cache, bad = load_dataset("ave", own_ave.root), tmp_path / "c", own_ave.ids[1]
    extract(dataset, extracting.stub_job(dataset, cache, "visual", layers="blocks.0"), unit_segments=60)
    original = UnitWriter.write

    def refuse(unit, array, row, value):
        if unit._owner[row].id == bad:
            raise InputRejected("not today", stage="backbone")
        original(unit, array, row, value)

    with monkeypatch.context() as patched:
        patched.setattr(UnitWriter, "write", refuse)
        extract(dataset, extracting.stub_job(dataset, cache, "visual", layers="blocks.3"))
    (entry,) = open_cache(cache).quarantined()
    assert entry.provenance["visual device"] == "cpu"
    assert retry(cache, [bad]).count("cached") == 1
    assert len(open_cache(cache).clips()) == 6


def test_a_rejection_names_the_decoders_that_were_there(broken):
    cache, _ = broken
    for entry in open_cache(cache).quarantined():  # empty files, which no decoder has seen
        assert {"decord", "pyav", "soundfile"} <= entry.provenance.keys()
        assert all(version[0].isdigit() for version in entry.provenance.values())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SimpleNamespace(imported=True), "avpipe cache import"),
        (SimpleNamespace(imported=False, request={}), "with --retry"),
    ],
)
def test_caches_that_do_not_say_what_they_were_made_with(tmp_path, spec, message):
    cache = SimpleNamespace(path=tmp_path, specs={"visual": spec})
    with pytest.raises(UsageError, match=message):
        _jobs(cache, None, {}, {})


def test_the_decoder_is_the_one_of_the_cache(own_ave, tmp_path):
    dataset = load_dataset("ave", own_ave.root)
    some = replace(dataset, clips=dataset.clips[:1])
    job = extracting.stub_job(some, tmp_path / "c", "visual", layers="blocks.0")
    extract(some, replace(job, media=replace(job.media, decoder="pyav")))
    assert _usual_decoder(open_cache(tmp_path / "c")) == "pyav"
