"""What stage one takes on before it is needed: two units at most, none once it is to stop, bounded reads."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

import extracting
import pytest
import slow_media

from avpipe.pipeline.cache import CacheWriter, UnitWriter, open_cache
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.verify import verify
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.interrupt import Interrupt
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.stages import clip_media, lookahead
from avpipe.stages.clip_media import MediaSource
from avpipe.stages.extract import extract
from avpipe.stages.extract_unit import UnitRunner

PATIENCE = 30


@pytest.fixture
def ave(own_ave):
    """Six clips of ten segments."""
    return load_dataset("ave", own_ave.root)


def test_a_process_holds_two_leases_at_most(ave, tmp_path, monkeypatch):
    job, most = extracting.stub_job(ave, tmp_path / "c", "audio"), []
    leases = Layout(job.cache).leases

    def claim(writer, unit, original=CacheWriter.claim):
        found = original(writer, unit)
        most.append(len(list(leases.glob("0*"))))
        return found

    def seal(unit, original=UnitWriter.seal):
        time.sleep(0.1)  # the next units are decoded meanwhile
        original(unit)

    monkeypatch.setattr(CacheWriter, "claim", claim)
    monkeypatch.setattr(UnitWriter, "seal", seal)
    monkeypatch.setattr(lookahead, "decoders_of", lambda job: 6)
    assert extract(ave, job, unit_segments=10).extracted == 6
    assert max(most) == 2
    assert not list(leases.glob("0*"))


def test_no_unit_is_claimed_once_it_is_to_stop(ave, tmp_path, monkeypatch):
    job, asked, claimed, submitted = extracting.stub_job(ave, tmp_path / "c", "audio"), [], [], []
    job = replace(job, decoders=1)

    def claim(writer, unit, original=CacheWriter.claim):
        claimed.append(unit)
        return original(writer, unit)

    def features(runner, media, original=UnitRunner.features):
        asked.append(1)
        return original(runner, media)

    class Watched(DecodePool):
        def submit(self, clip):
            submitted.append(clip.id)
            return super().submit(clip)

    monkeypatch.setattr(CacheWriter, "claim", claim)
    monkeypatch.setattr(UnitRunner, "features", features)
    monkeypatch.setattr(clip_media, "DecodePool", Watched)
    monkeypatch.setattr(Interrupt, "asked", lambda interrupt: bool(asked))
    summary = extract(ave, job, unit_segments=40)  # the first unit has four clips: it looks beyond it at the second
    assert (claimed, len(submitted)) == ([0], 4)
    assert (summary.extracted, summary.left) == (4, 2)


@pytest.mark.parametrize(("most_bytes", "clips"), [(512 << 20, lookahead.READ_CLIPS), (1, 1)])
def test_what_is_read_ahead_is_bounded_in_clips_and_bytes(ave, tmp_path, monkeypatch, most_bytes, clips):
    extract(ave, extracting.stub_job(ave, tmp_path / "c", "audio", layers="blocks.0"), unit_segments=60)
    ahead = []

    def media(source, *given, original=MediaSource.media):
        ahead.append(len(source._reads))  # the clip that is needed now included
        return original(source, *given)

    monkeypatch.setattr(lookahead, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(MediaSource, "media", media)
    assert extract(ave, extracting.stub_job(ave, tmp_path / "c", "audio", layers="blocks.0,blocks.1")).extracted == 6
    assert max(ahead) == clips


@pytest.mark.parametrize(
    ("error", "kept"), [(EnvironmentLacking("no decoder process was ready"), 1), (KeyboardInterrupt(), 0)]
)
def test_media_that_fail_while_the_unit_before_is_not_committed(ave, tmp_path, monkeypatch, error, kept):
    """After an error that unit is written and committed all the same; a second Ctrl-C stops it, too."""
    job = extracting.stub_job(ave, tmp_path / "c", "audio")
    failed, calls = threading.Event(), []

    def clip_done(unit, *given, original=UnitWriter.clip_done):
        assert failed.wait(PATIENCE)
        time.sleep(0.1)
        original(unit, *given)

    def media(source, *given, original=MediaSource.media):
        calls.append(1)
        if len(calls) == 2:
            failed.set()
            raise error
        return original(source, *given)

    with monkeypatch.context() as patched:
        patched.setattr(UnitWriter, "clip_done", clip_done)
        patched.setattr(MediaSource, "media", media)
        patched.setattr(lookahead.Lookahead, "reach", lambda *given: None)
        with pytest.raises(type(error)) as caught:
            extract(ave, job, unit_segments=10)
    assert caught.value is error
    assert len(open_cache(job.cache).clips()) == kept
    assert not list(Layout(job.cache).leases.glob("0*"))
    assert verify(job.cache).ok
    assert extract(ave, job).extracted == 6 - kept


def test_rejected_clips_count_as_the_decoders_work(ave, tmp_path, monkeypatch):
    """Half of the clips cost a decoder its deadline: it is what the run waits for."""
    late = partial(DecodePool, decode=slow_media.decode_every_other)
    monkeypatch.setattr(clip_media, "DecodePool", late)
    job = replace(extracting.stub_job(ave, tmp_path / "c", "audio"), decoders=1, deadline_seconds=0.5)
    summary = extract(ave, job, unit_segments=60)
    decode = next(stage for stage in summary.stages if stage.name == "decode")
    assert (len(summary.quarantined), decode.clips) == (3, 6)
    assert decode.busy_seconds > 3 * 0.5
    assert summary.work_seconds["decode"] == pytest.approx(decode.busy_seconds)


def test_a_rejection_without_a_decoder_is_no_work(ave, tmp_path, monkeypatch):
    def reject(runner, media):
        raise InputRejected("not this one", stage="backbone")

    monkeypatch.setattr(UnitRunner, "features", reject)
    summary = extract(ave, extracting.stub_job(ave, tmp_path / "c", "audio"), unit_segments=60)
    assert [(stage.name, stage.clips) for stage in summary.stages] == [("decode", 6), ("commit", 1)]
