"""One process of stage one: what it decodes, what it leaves to others, how much it holds."""

from __future__ import annotations

from dataclasses import replace

import extracting
import pytest

from avpipe.pipeline import progress
from avpipe.pipeline.cache import CacheWriter, UnitWriter, open_cache
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lease import Leases
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.stages import clip_media, unit_queue
from avpipe.stages import extract as extract_module
from avpipe.stages.extract import extract


@pytest.fixture
def decoded(monkeypatch) -> list[tuple[str, bool, bool]]:
    """Every clip that is handed to a decoder: its id, whether frames and whether sound are wanted."""
    found: list[tuple[str, bool, bool]] = []

    class Watched(DecodePool):
        def __init__(self, spec, **options):
            super().__init__(spec, **options)
            self._wanted = spec.frame_size is not None, spec.audio

        def submit(self, clip):
            found.append((clip.id, *self._wanted))
            return super().submit(clip)

    monkeypatch.setattr(clip_media, "DecodePool", Watched)
    return found


def test_only_what_is_lacking_is_decoded(own_ave, tmp_path, decoded):
    dataset, cache = load_dataset("ave", own_ave.root), tmp_path / "c"
    assert extract(dataset, extracting.stub_job(dataset, cache, "visual"), unit_segments=20).extracted == 6
    assert sorted(decoded) == sorted((clip, True, False) for clip in own_ave.ids)
    decoded.clear()
    assert extract(dataset, extracting.stub_job(dataset, cache, "visual", "audio")).extracted == 6
    assert sorted(decoded) == sorted((clip, False, True) for clip in own_ave.ids)
    decoded.clear()
    assert extract(dataset, extracting.stub_job(dataset, cache, "visual", "audio", layers="all")).extracted == 6
    assert extract(dataset, extracting.stub_job(dataset, cache, "visual", "audio", dtype="float32")).extracted == 6
    own_ave.add(1)
    dataset = load_dataset("ave", own_ave.root)
    assert extract(dataset, extracting.stub_job(dataset, cache, "audio")).extracted == 1
    assert decoded == [(own_ave.ids[-1], False, True)]


def test_clips_of_units_that_others_hold_are_not_decoded(own_ave, tmp_path, decoded, monkeypatch):
    dataset, cache = load_dataset("ave", own_ave.root), tmp_path / "c"
    job = extracting.stub_job(dataset, cache, "visual", "audio")
    short = replace(dataset, clips=dataset.clips[:1])
    assert extract(short, job, unit_segments=10).extracted == 1  # the other five will be units 1 to 5
    decoded.clear()
    other, said, held = CacheWriter.open(cache), [], [2, 4]
    assert all(other.claim(unit) for unit in held)
    monkeypatch.setattr(unit_queue, "QUIET_SECONDS", 0.0)

    class Listening:
        def begin(self, name, total, unit, done):
            return self

        def advance(self, amount=1, note=""):
            leases = [path for path in Layout(cache).leases.iterdir() if path.name != "lock"]
            assert len(leases) <= 2 + len(held), "it holds more than the open unit and the next"

        def end(self, task):
            pass

        def say(self, line):
            said.append(line)
            if "in the hands of" in line:
                theirs = {clip.id for number, clip in enumerate(dataset.clips) if number in held}
                assert {clip for clip, *_ in decoded} == {clip.id for clip in dataset.clips[1:]} - theirs
                other.close()

    monkeypatch.setattr(progress, "_reporter", Listening())
    summary = extract(dataset, job)
    assert (summary.extracted, summary.left) == (5, 0)
    assert [line for line in said if "in the hands of" in line] == [
        f"the last 2 units are in the hands of {other._folder.name}: waiting, and taking over what they leave "
        "(Ctrl-C leaves it to them)"
    ]
    assert len(decoded) == 5
    assert sorted(open_cache(cache).clips()) == sorted(own_ave.ids)
    assert not list(Layout(cache).leases.glob("0*"))


def test_a_unit_that_was_committed_before_its_lease_was_had_is_not_done_again(own_ave, tmp_path, decoded, monkeypatch):
    dataset, cache = load_dataset("ave", own_ave.root), tmp_path / "c"
    original, claimed = Leases.claim, []

    def claim_too_late(leases, unit):
        claimed.append(unit)
        if len(claimed) == 1:
            options = ("--layers", "blocks.1", "--unit-segments", 60)
            extracting.finish(extracting.start(own_ave.root, cache, tmp_path / "log", *options))
        return original(leases, unit)

    monkeypatch.setattr(Leases, "claim", claim_too_late)
    summary = extract(dataset, extracting.stub_job(dataset, cache, "visual", "audio"), unit_segments=60)
    assert (summary.clips, summary.extracted, summary.left) == (6, 0, 0)
    assert claimed == [0]
    assert decoded == []


@pytest.mark.parametrize("less", ["arrays", "clips"])
def test_another_process_that_wants_less_of_a_unit_leaves_the_rest(own_ave, tmp_path, decoded, monkeypatch, less):
    """What it made is not made again, and what it did not want is made in the same run."""
    dataset, cache = load_dataset("ave", own_ave.root), tmp_path / "c"
    both = extracting.stub_job(dataset, cache, "visual", "audio")
    fewer = replace(dataset, clips=dataset.clips[:3]) if less == "clips" else dataset
    others = extracting.stub_job(dataset, cache, "visual") if less == "arrays" else both
    original, plans = extract_module._plan, []

    def plan_and_be_overtaken(*args, **options):
        mine = original(*args, **options)
        plans.append(mine)
        if len(plans) == 1:
            assert extract(fewer, others).extracted == len(fewer.clips)
        return mine

    monkeypatch.setattr(extract_module, "_plan", plan_and_be_overtaken)
    summary = extract(dataset, both, unit_segments=60)
    assert (summary.clips, summary.left) == (6, 0)
    wanted = [(True, True)] if less == "clips" else [(True, False), (False, True)]
    assert sorted(decoded) == sorted((clip, *media) for clip in own_ave.ids for media in wanted)


def test_every_clip_counts_as_progress(own_ave, tmp_path, monkeypatch):
    """Else the leases of a writer with a slow unit would be taken for those of one that hangs."""
    dataset, told = load_dataset("ave", own_ave.root), []
    monkeypatch.setattr(CacheWriter, "progress", lambda writer: told.append(writer))
    extract(dataset, extracting.stub_job(dataset, tmp_path / "c", "visual"), unit_segments=60)
    assert len(told) == len(own_ave.ids)


def test_a_retry_for_some_layers_hides_no_others(own_ave, tmp_path, monkeypatch):
    dataset, cache = load_dataset("ave", own_ave.root), tmp_path / "c"
    few, more = (extracting.stub_job(dataset, cache, "visual", layers=layers) for layers in ("blocks.0", "blocks.3"))
    both = extracting.stub_job(dataset, cache, "visual", layers="blocks.0,blocks.3")
    assert extract(dataset, few, unit_segments=60).clips == 6
    bad, original, said = own_ave.ids[1], UnitWriter.write, []

    def refuse(unit, array, row, value):
        if unit._owner[row].id == bad:
            raise InputRejected("not today", stage="backbone")
        original(unit, array, row, value)

    with monkeypatch.context() as patched:
        patched.setattr(UnitWriter, "write", refuse)
        assert [entry.clip for entry in extract(dataset, more).quarantined] == [bad]
    monkeypatch.setattr(progress, "say", said.append)
    for _ in range(2):
        summary = extract(dataset, more, retry=True)
        assert (summary.clips, summary.extracted, [entry.clip for entry in summary.quarantined]) == (5, 0, [bad])
        assert len(said) == 1
        assert "1 cached clips" in said[0]
        assert repr(bad) in said.pop()
    assert bad in open_cache(cache).clips(["visual/frames", "visual/blocks.0"])
    assert extract(dataset, both, retry=True).clips == 6
    assert said == []
