"""Stage one side by side: as long as its slowest stage, bounded queues, and a clean end after an error anywhere."""

from __future__ import annotations

import shutil
import threading
import time

import extracting
import pytest

from avpipe.pipeline.cache import Cache, UnitWriter, open_cache
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.verify import verify
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.stages import clip_media, lookahead
from avpipe.stages.clip_media import MediaSource, decoders_of
from avpipe.stages.extract import extract
from avpipe.stages.extract_unit import UnitRunner
from avpipe.stages.unit_tail import UnitTail

CLIPS = 8
SECONDS = 0.3
PATIENCE = 30
FIRST, NEXT = "blocks.0", "blocks.0,blocks.1"


def _slowly(original, seconds):
    def slow(*args, **options):
        time.sleep(seconds)
        return original(*args, **options)

    return slow


@pytest.fixture(scope="module")
def stored(new_ave, tmp_path_factory):
    """A dataset of 8 clips, a cache with their media and one layer in units of two, and the hash after another."""
    folder = tmp_path_factory.mktemp("stored")
    made = new_ave(folder / "ave")
    made.add(CLIPS)
    dataset = load_dataset("ave", made.root)
    extract(dataset, extracting.stub_job(dataset, folder / "c", "visual", "audio", layers=FIRST), unit_segments=20)
    shutil.copytree(folder / "c", folder / "whole")
    extract(dataset, extracting.stub_job(dataset, folder / "whole", "visual", "audio", layers=NEXT))
    return dataset, folder / "c", open_cache(folder / "whole").content_hash()


@pytest.fixture
def growing(stored, tmp_path):
    """That dataset, the job that adds a layer to a copy of its cache, and the hash to come. Nothing is decoded."""
    dataset, cache, expected = stored
    shutil.copytree(cache, tmp_path / "c")
    return dataset, extracting.stub_job(dataset, tmp_path / "c", "visual", "audio", layers=NEXT), expected


def _assert_tidy(cache) -> None:
    assert not [path for path in Layout(cache).temporaries.rglob("*") if path.name != "lock"]
    assert not list(Layout(cache).leases.glob("0*"))
    assert not [t.name for t in threading.enumerate() if t.name in ("encode", "write") or t.name.startswith("stored")]


def test_it_takes_the_time_of_the_slowest_stage(growing, monkeypatch):
    """Every stage sleeps as long for each clip: the processor, which others may use, has little to do with it."""
    dataset, job, expected = growing
    slow = (Cache, "read"), (UnitRunner, "features"), (UnitRunner, "encode"), (UnitWriter, "clip_done")
    for owner, name in slow:
        monkeypatch.setattr(owner, name, _slowly(getattr(owner, name), SECONDS))
    summary = extract(dataset, job)
    shown = {stage.name: stage for stage in summary.stages}
    assert list(shown) == ["read", "backbone", "encode", "write", "commit"]
    spent = sum(stage.busy_seconds for stage in summary.stages)
    assert spent > 4 * SECONDS * CLIPS
    assert summary.wall_seconds < 0.7 * spent, shown
    for name in ("read", "backbone", "encode", "write"):
        assert shown[name].clips == CLIPS
        assert shown[name].p50_ms > 1000 * SECONDS * 0.98
    assert summary.work_seconds["backbone"] == pytest.approx(shown["backbone"].busy_seconds)
    assert open_cache(job.cache).content_hash() == expected
    _assert_tidy(job.cache)


def test_later_clips_are_decoded_while_one_is_in_the_backbone(stored, tmp_path, monkeypatch):
    """Those of the next unit too."""
    dataset, met = stored[0], []

    def features(runner, media, original=UnitRunner.features):
        end = time.monotonic() + PATIENCE
        coming = list(runner.source._futures.values())
        while not all(future.done() for future in coming) and time.monotonic() < end:
            time.sleep(0.01)
        met.append(sum(future.done() for future in coming))
        return original(runner, media)

    monkeypatch.setattr(UnitRunner, "features", features)
    job = extracting.stub_job(dataset, tmp_path / "c", "audio")
    assert extract(dataset, job, unit_segments=20).extracted == CLIPS
    assert len(met) == CLIPS
    assert all(met[:-1]), "nothing was decoded meanwhile"
    assert max(met) >= 2


def test_the_next_unit_is_in_the_backbone_while_one_is_committed(growing, monkeypatch):
    dataset, job, expected = growing
    begun, met = [], []
    third = threading.Event()

    def features(runner, media, original=UnitRunner.features):
        begun.append(1)
        if len(begun) == 3:
            third.set()
        return original(runner, media)

    def seal(unit, original=UnitWriter.seal):
        met.append(third.wait(PATIENCE))
        original(unit)

    monkeypatch.setattr(UnitRunner, "features", features)
    monkeypatch.setattr(UnitWriter, "seal", seal)
    assert extract(dataset, job).extracted == CLIPS
    assert met == [True] * 4
    assert open_cache(job.cache).content_hash() == expected


def test_no_more_clips_are_in_flight_than_the_queues_take(growing, monkeypatch):
    dataset, job, _ = growing
    count, most = {"begun": 0, "written": 0}, []

    def features(runner, media, original=UnitRunner.features):
        count["begun"] += 1
        most.append(count["begun"] - count["written"])
        return original(runner, media)

    def clip_done(unit, *args, original=UnitWriter.clip_done):
        time.sleep(0.1)
        original(unit, *args)
        count["written"] += 1

    monkeypatch.setattr(UnitRunner, "features", features)
    monkeypatch.setattr(UnitWriter, "clip_done", clip_done)
    extract(dataset, job)
    assert 3 <= max(most) <= 5, "one in the backbone, two to be encoded, two to be written"


@pytest.mark.parametrize(("most_bytes", "least", "most"), [(512 << 20, 2, 4), (1, 1, 1)])
def test_what_is_decoded_ahead_is_bounded_in_clips_and_bytes(stored, tmp_path, monkeypatch, most_bytes, least, most):
    dataset, ahead = stored[0], []
    job = extracting.stub_job(dataset, tmp_path / "c", "visual")
    original = MediaSource.media

    def media(source, *args):
        ahead.append(len(source._futures))  # the clip that is needed now included
        return original(source, *args)

    monkeypatch.setattr(lookahead, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(lookahead, "decoders_of", lambda job: 2)
    monkeypatch.setattr(MediaSource, "media", media)
    assert extract(dataset, job, unit_segments=60).extracted == CLIPS
    assert least <= max(ahead) <= most


def test_decoders_share_the_cores_unless_their_number_is_given(growing, monkeypatch):
    job = growing[1]
    monkeypatch.setattr(clip_media, "cores", lambda: 12)
    assert [decoders_of(job, processes) for processes in (1, 5, 20)] == [12, 2, 1]
    monkeypatch.setattr(clip_media, "cores", lambda: 200)
    assert decoders_of(job) == clip_media.MOST_DECODERS


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MediaSource, "_read"),
        (UnitRunner, "features"),
        (UnitRunner, "encode"),
        (UnitWriter, "write"),
        (UnitWriter, "seal"),
        (UnitWriter, "put_record"),
        (UnitTail, "_tell"),
    ],
)
@pytest.mark.parametrize("error", [EnvironmentLacking("no space left"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_error_in_any_stage_ends_it_cleanly(growing, monkeypatch, owner, name, error):
    """It happens at the third clip or unit: what was committed before is kept, and the next run goes on from there."""
    dataset, job, expected = growing
    calls, original = [], getattr(owner, name)

    def fail(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return original(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(type(error)) as caught:
            extract(dataset, job)
    assert caught.value is error
    _assert_tidy(job.cache)
    assert verify(job.cache).ok
    kept = len(open_cache(job.cache).clips())
    assert kept % 2 == 0
    assert kept < CLIPS
    assert extract(dataset, job).extracted == CLIPS - kept
    assert open_cache(job.cache).content_hash() == expected
    _assert_tidy(job.cache)


@pytest.mark.parametrize(("owner", "name"), [(UnitRunner, "features"), (UnitRunner, "encode"), (UnitWriter, "write")])
def test_a_rejection_in_any_stage_costs_that_clip(growing, monkeypatch, owner, name):
    dataset, job, expected = growing
    calls, original = [], getattr(owner, name)

    def reject(*args, **options):
        calls.append(1)
        if len(calls) == 1:
            raise InputRejected("not this one", stage="backbone")
        return original(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, reject)
        summary = extract(dataset, job)
    bad = [entry.clip for entry in summary.quarantined]
    assert bad == [dataset.clips[0].id]
    assert (summary.clips, summary.extracted) == (CLIPS - 1, CLIPS - 1)
    assert extract(dataset, job, retry=True).clips == CLIPS
    assert open_cache(job.cache).content_hash() == expected
