"""Planning, growth by clips and by arrays, quarantine, fingerprints, and the content hash."""

from __future__ import annotations

import struct
import time

import cache_toy as toy
import pytest
import xxhash

from avpipe.pipeline.cache import ArraySpec, CacheWriter, open_cache, verify
from avpipe.pipeline.errors import CacheMismatch, UsageError

CLIPS = toy.clips(9)
IDS = [clip for clip, _, _ in CLIPS]


def _hash(path) -> str:
    return open_cache(path).content_hash()


@pytest.fixture(scope="module")
def whole_hash(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("whole") / "c"
    toy.extract(path, CLIPS)
    return _hash(path)


def test_plan_is_stable_and_finds_nothing_left(tmp_path):
    with toy.begin(tmp_path / "c") as writer:
        first = writer.plan(CLIPS, toy.ARRAYS)
        assert [c.id for work in first.pending for c in work.clips] == IDS
        assert writer.plan(CLIPS, toy.ARRAYS) == first
        assert writer.plan(CLIPS[::-1], toy.ARRAYS) == first  # placed once and for all
        toy.commit(writer, first.pending[1])
        again = writer.plan(CLIPS, toy.ARRAYS)
        assert again.pending == (first.pending[0], *first.pending[2:])
        assert again.done == len(first.pending[1].clips)
        for work in again.pending:
            toy.commit(writer, work)
    last = toy.extract(tmp_path / "c", CLIPS)
    assert (last.pending, last.done, last.quarantined) == ((), 9, ())


def test_a_pending_unit_leaves_out_clips_that_are_no_longer_wanted(tmp_path):
    path = tmp_path / "c"
    with toy.begin(path) as writer:
        writer.plan(CLIPS[:3], toy.ARRAYS)
    toy.extract(path, CLIPS[1:2])
    assert list(open_cache(path).clips()) == IDS[1:2]
    toy.extract(path, CLIPS[:3])
    toy.assert_sound(path, CLIPS[:3])


def test_growth_by_clips_and_by_arrays_ends_in_the_same_content(tmp_path, whole_hash):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:4], toy.VISUAL[:2])
    with pytest.raises(UsageError, match="unknown tap"):
        open_cache(path).clips([toy.SAMPLES.name])
    toy.extract(path, CLIPS[:6], toy.VISUAL)
    plan = toy.extract(path, CLIPS, toy.ARRAYS)
    assert [a.name for a in plan.pending[0].arrays] == [toy.SAMPLES.name]
    assert [a.name for a in plan.pending[-1].arrays] == [a.name for a in toy.ARRAYS]
    toy.assert_sound(path, CLIPS)
    assert _hash(path) == whole_hash
    clip = open_cache(path).clips()[IDS[0]]
    assert set(clip.masks) == {"visual", "audio"}


def test_arrays_are_added_for_every_clip_of_a_unit_even_if_fewer_are_wanted(tmp_path):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:4], [toy.BLOCK])
    toy.extract(path, CLIPS[:1], [toy.FRAMES])
    cache = open_cache(path)
    unit = [c for c, r in cache.clips([toy.BLOCK.name]).items() if r.start < toy.UNIT_ROWS]
    assert len(unit) > 1
    assert list(cache.clips([toy.FRAMES.name])) == unit
    missing = next(c for c in IDS[:4] if c not in unit)
    with pytest.raises(UsageError, match="is not complete in it"):
        cache.read(cache.rows([missing]), [toy.FRAMES.name])


def test_content_hash_does_not_depend_on_placement_but_on_every_row(tmp_path, whole_hash):
    toy.extract(tmp_path / "larger", CLIPS[::-1], unit_rows=13)
    assert _hash(tmp_path / "larger") == whole_hash
    toy.extract(tmp_path / "fewer", CLIPS[:-1])
    assert _hash(tmp_path / "fewer") != whole_hash
    swapped = [(IDS[1], CLIPS[0][1], ""), (IDS[0], CLIPS[1][1], ""), *CLIPS[2:]]
    toy.extract(tmp_path / "swapped", swapped)
    assert _hash(tmp_path / "swapped") != whole_hash


def test_content_hash_is_what_the_format_says(whole_hash):
    total = 0
    for clip, segments, _ in CLIPS:
        for array in toy.ARRAYS:
            for segment in range(segments):
                name = clip.encode() + b"\0" + array.name.encode() + b"\0" + struct.pack("<I", segment)
                total += xxhash.xxh3_128_intdigest(name + toy.value(clip, array, segment).tobytes())
    assert f"{total % 2**128:032x}" == whole_hash


def test_quarantined_clips_wait_for_a_retry_or_a_changed_file(tmp_path):
    path = tmp_path / "c"
    bad = IDS[2]
    toy.extract(path, CLIPS, reject={bad})
    same = toy.extract(path, CLIPS)
    assert (same.pending, same.done, [q.clip for q in same.quarantined]) == ((), 8, [bad])
    toy.extract(path, CLIPS, reject={bad}, retry=True)
    assert [(q.clip, q.attempts) for q in open_cache(path).quarantined()] == [(bad, 2)]
    mended = [(c, n, "mended" if c == bad else s) for c, n, s in CLIPS]
    plan = toy.extract(path, mended)
    assert [c.id for work in plan.pending for c in work.clips] == [bad]
    assert open_cache(path).quarantined() == ()
    toy.assert_sound(path, CLIPS)
    toy.extract(tmp_path / "unbroken", CLIPS)
    assert _hash(path) == _hash(tmp_path / "unbroken")


def test_a_unit_of_rejected_clips_is_committed_without_files(tmp_path):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:2], reject=set(IDS))
    assert not list(path.glob("visual/*/c.*"))
    assert open_cache(path).clips() == {}
    assert toy.extract(path, CLIPS[:2]).pending == ()
    assert verify(path).ok


def test_a_clip_that_fails_for_a_later_array_moves_when_it_is_mended(tmp_path):
    path = tmp_path / "c"
    toy.extract(path, CLIPS, toy.VISUAL)
    toy.extract(path, CLIPS, toy.ARRAYS, reject={IDS[0]})
    cache = open_cache(path)
    assert IDS[0] in cache.clips([toy.BLOCK.name])
    assert IDS[0] not in cache.clips()
    assert [q.clip for q in cache.quarantined()] == [IDS[0]]
    assert toy.extract(path, CLIPS, toy.VISUAL).done == 9  # what it has is not lost
    assert toy.extract(path, CLIPS, toy.ARRAYS).pending == ()
    toy.extract(path, CLIPS, toy.ARRAYS, retry=True)
    toy.assert_sound(path, CLIPS)
    cache.reload()
    assert cache.quarantined() == ()
    assert cache.clips()[IDS[0]].start >= 3 * toy.UNIT_ROWS
    with pytest.raises(UsageError, match="no committed clip owns it"):
        cache.read([0], [toy.BLOCK.name])  # the rows that it left behind
    toy.extract(tmp_path / "unbroken", CLIPS)
    assert cache.content_hash() == _hash(tmp_path / "unbroken")


@pytest.mark.parametrize("why", ["retry", "changed file", "planned before"])
def test_a_clip_is_not_made_anew_with_fewer_arrays_than_it_has(tmp_path, why):
    path, bad = tmp_path / "c", IDS[1]
    toy.extract(path, CLIPS[:3], [toy.FRAMES, toy.BLOCK])
    before = _hash(path)
    toy.extract(path, CLIPS[:3], [toy.LARGE], reject=set(IDS))
    every = (toy.FRAMES, toy.BLOCK, toy.LARGE)
    if why == "planned before":
        with toy.begin(path) as writer:
            assert writer.plan(CLIPS[:3], every, retry=True).pending
    wanted = [(c, n, "new" if why == "changed file" else s) for c, n, s in CLIPS[:3]]
    plan = toy.extract(path, wanted, [toy.LARGE], retry=why != "changed file")
    assert plan.pending == ()
    assert plan.held_back == dict.fromkeys(IDS[:3], tuple(sorted(array.name for array in every)))
    assert sorted(q.clip for q in plan.quarantined) == sorted(IDS[:3])
    cache = open_cache(path)
    assert cache.content_hash() == before
    assert bad in cache.clips([toy.FRAMES.name, toy.BLOCK.name])
    again = toy.extract(path, wanted, every, retry=True)
    assert again.held_back == {}
    assert [clip.id for work in again.pending for clip in work.clips] == IDS[:3]
    toy.assert_sound(path, CLIPS[:3], every)


def test_other_settings_are_refused_field_by_field(tmp_path):
    with toy.begin(tmp_path / "c") as writer:
        fields = {"weights": {"sha256": "12ab"}, "segment_seconds": 1.0}
        writer.declare("visual", {**fields}, {"model": "asked for otherwise"})
        with pytest.raises(CacheMismatch) as error:
            writer.declare("visual", {"weights": {"sha256": "99ff"}, "size": (224, 224)}, {})
        text = str(error.value)
        assert 'weights.sha256: cache has "12ab", this run has "99ff"' in text
        assert "segment_seconds: cache has 1.0, this run has no such field" in text
        assert "size: cache has no such field, this run has [224, 224]" in text
        assert "--cache" in text
    assert open_cache(tmp_path / "c").specs["visual"].request == {"model": "toy"}


def test_requests_that_cannot_be_met_are_refused(tmp_path):
    with toy.begin(tmp_path / "c") as writer:
        for clips, words in (
            ([("long", 9, "")], "a unit of this cache holds 8 .*larger units"),
            ([("a", 1, ""), ("a", 1, "")], "named twice"),
            ([("a", 0, "")], "0 segments"),
        ):
            with pytest.raises(UsageError, match=words):
                writer.plan(clips, toy.ARRAYS)
        with pytest.raises(UsageError, match="declare"):
            writer.plan([("a", 1, "")], [ArraySpec("depth/maps", (3,), "uint8")])
        toy.commit(writer, writer.plan([("a", 2, "")], [toy.BLOCK]).pending[0])
        with pytest.raises(CacheMismatch, match=r"float16.*float32"):
            writer.plan([("a", 2, "")], [ArraySpec(toy.BLOCK.name, (3, 8), "float32")])
        with pytest.raises(CacheMismatch, match="2 segments, this run wants 3"):
            writer.plan([("a", 3, "")], [toy.BLOCK])
    for name, shape, dtype in (("blocks", (1,), "uint8"), ("a/../b", (1,), "uint8"), ("visual/x", (), "uint8")):
        with pytest.raises(UsageError):
            ArraySpec(name, shape, dtype)
    with pytest.raises(UsageError, match="no storage type"):
        ArraySpec("visual/x", (1,), "complex64")


@pytest.mark.alone
def test_two_thousand_units_open_and_plan_in_a_moment(tmp_path):
    path, count = tmp_path / "c", 2000
    wanted = [(f"clip{i}", 1, "") for i in range(count)]
    tiny = [ArraySpec("audio/level", (1,), "float32")]
    with toy.begin(path, unit_rows=1) as writer:
        plan = writer.plan(wanted, tiny)
    # The records that a writer would put, without the shards and syncs that make it slow: only the ledger is measured.
    from avpipe.pipeline.cache.documents import seal
    from avpipe.pipeline.cache.layout import Layout
    from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, Record

    for work in plan.pending:
        (clip,) = work.clips
        entry = CommittedClip(clip.id, clip.start, 1, "", {"audio": "1"}, {"decoder": "toy 1"}, 1)
        file = CommittedFile(tiny[0].name, "w/x", tiny[0].shard_key(work.unit), 28, "0" * 32, "0" * 32)
        record = Record(work.unit, 0, "w", 0.0, 1.0, {}, (entry,), (), (file,))
        document = Layout(path).record(work.unit, 0)
        for place in (document, Layout(path).twin(document)):
            place.write_bytes(seal(record.as_json()))
    begin = time.perf_counter()
    assert len(open_cache(path).clips()) == count
    opened = time.perf_counter()
    with CacheWriter.open(path) as writer:
        assert writer.plan(wanted, tiny).done == count
    planned = time.perf_counter()
    assert opened - begin < 3
    assert planned - opened < 5
    print(f"open {opened - begin:.2f} s, open and plan {planned - opened:.2f} s")
