"""What is written is what is read, whoever reads it."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import ArraySpec, CacheWriter, open_cache, progress_of, resolve_cache
from avpipe.pipeline.errors import EnvironmentLacking, UsageError

CLIPS = toy.clips(9)


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "cache"
    toy.extract(path, CLIPS, reject={CLIPS[4][0]})
    return path


def _expected(clip: str, segments: int, array: ArraySpec) -> np.ndarray:
    return np.stack([toy.value(clip, array, segment) for segment in range(segments)])


@pytest.mark.parametrize("access", ["mmap", "pread"])
@pytest.mark.parametrize("check", ["first", "always", "never"])
def test_reads_what_was_written_in_any_order(cache_path, access, check):
    cache = open_cache(cache_path)
    chosen = [CLIPS[i] for i in (7, 0, 3)]
    rows = cache.rows([clip for clip, _, _ in chosen])[::-1]
    for _ in range(2):
        read = cache.read(rows, [a.name for a in toy.ARRAYS], check=check, access=access)
        for array in toy.ARRAYS:
            expected = np.concatenate([_expected(clip, n, array) for clip, n, _ in chosen])[::-1]
            np.testing.assert_array_equal(read[array.name], expected)
            assert read[array.name].dtype == np.dtype(array.dtype)


def test_fills_out_in_place(cache_path):
    cache = open_cache(cache_path)
    rows = cache.rows([CLIPS[0][0]])
    out = {toy.BLOCK.name: np.zeros((len(rows), 3, 8), np.float16)}
    assert cache.read(rows, [toy.BLOCK.name], out)[toy.BLOCK.name] is out[toy.BLOCK.name]
    np.testing.assert_array_equal(out[toy.BLOCK.name], _expected(*CLIPS[0][:2], toy.BLOCK))
    wrong = (np.zeros((len(rows), 3, 8), np.float32), np.zeros((len(rows), 8, 3), np.float16).transpose(0, 2, 1))
    for bad in wrong:
        with pytest.raises(UsageError, match="C-contiguous"):
            cache.read(rows, [toy.BLOCK.name], {toy.BLOCK.name: bad})


def test_never_hands_out_fill_values(cache_path):
    cache = open_cache(cache_path)
    owned = {int(row) for clip in cache.clips() for row in cache.rows([clip])}
    strays = [row for row in range(-1, 100) if row not in owned]
    assert any(0 <= row < 16 for row in strays)  # holes and the rejected clip
    for row in strays:
        with pytest.raises(UsageError, match="no committed clip"):
            cache.read([row], [toy.FRAMES.name])
    with pytest.raises(UsageError, match="quarantined: it is torn"):
        cache.rows([CLIPS[4][0]])
    with pytest.raises(UsageError, match=r"did you mean 'visual/blocks\.3'"):
        cache.read([0], ["visual/block.3"])


def test_clips_tell_rows_masks_and_provenance(cache_path):
    cache = open_cache(cache_path)
    found = cache.clips()
    assert list(found) == [clip for i, (clip, _, _) in enumerate(CLIPS) if i != 4]
    clip = found[CLIPS[3][0]]
    assert clip.segments == CLIPS[3][1]
    np.testing.assert_array_equal(clip.masks["visual"], [True] * clip.segments)
    np.testing.assert_array_equal(clip.masks["audio"], [True] * (clip.segments - 1) + [False])
    assert clip.provenance == {"decoder": "toy 1"}
    for one in found.values():  # no clip straddles two units
        assert one.start // toy.UNIT_ROWS == (one.start + one.segments - 1) // toy.UNIT_ROWS
    (bad,) = cache.quarantined()
    assert (bad.clip, bad.stage, bad.reason, bad.hint, bad.attempts) == (
        CLIPS[4][0],
        "decode",
        "it is torn",
        "mend it",
        1,
    )


def test_can_be_pickled_and_used_in_a_spawned_process(cache_path):
    cache = open_cache(cache_path)
    rows = cache.rows([CLIPS[8][0]])
    expected = cache.read(rows, [toy.LARGE.name])[toy.LARGE.name]
    again = pickle.loads(pickle.dumps(cache)).read(rows, [toy.LARGE.name])[toy.LARGE.name]
    np.testing.assert_array_equal(again, expected)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(cache.read, rows, [toy.LARGE.name]).result(timeout=60)[toy.LARGE.name]
    np.testing.assert_array_equal(elsewhere, expected)


def test_zarr_python_reads_every_array_and_lists_the_tree_in_silence(cache_path):
    zarr = pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(cache_path, mode="r")
        members = dict(group.members(max_depth=None))
        assert str(group.tree())
        assert group.attrs["avpipe"] == {"format": 1}
    assert {name for name in members if "/" in name} == {a.name for a in toy.ARRAYS}
    _compare(cache_path, lambda array: members[array.name][:])


def test_zarrs_reads_every_array(cache_path):
    pytest.importorskip("zarrs")
    zarr = pytest.importorskip("zarr")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        group = zarr.open_group(cache_path, mode="r")
        _compare(cache_path, lambda array: group[array.name][:])


def test_tensorstore_reads_every_array(cache_path):
    tensorstore = pytest.importorskip("tensorstore")

    def read(array: ArraySpec) -> np.ndarray:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{cache_path}/{array.name}/"}}
        return tensorstore.open(spec, read=True).result().read().result()

    _compare(cache_path, read)


def _compare(path: Path, foreign) -> None:
    """Another reader's whole array: our rows where a clip owns them, the fill value elsewhere."""
    cache = open_cache(path)
    rows = cache.rows(list(cache.clips()))
    for array in toy.ARRAYS:
        theirs = foreign(array)
        expected = np.full_like(theirs, np.nan if array.is_float else 0)
        expected[rows] = cache.read(rows, [array.name])[array.name]
        assert len(theirs) == 4 * toy.UNIT_ROWS
        assert len(rows) < len(theirs)  # there are holes
        np.testing.assert_array_equal(theirs, expected)
        assert theirs.dtype == np.dtype(array.dtype)


def test_large_chunks_start_on_a_page_and_small_ones_are_packed(cache_path):
    from avpipe.pipeline.cache.open_shards import OpenShards

    cache = open_cache(cache_path)
    for array, step in ((toy.LARGE, 69632), (toy.FRAMES, 64)):
        file = cache._ledger.current(0, array.name)
        shard = OpenShards().get(cache._layout, file, array, 0, toy.UNIT_ROWS, "pread")
        offsets = shard.offsets[shard.offsets >= 0]
        assert offsets.tolist() == [step * i for i in range(len(offsets))]


def test_a_committed_but_unpublished_unit_is_read_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr("avpipe.pipeline.cache.reader.recover", lambda ledger, **how: None)  # as on a read-only disk
    with toy.begin(tmp_path / "c") as writer:
        (work,) = writer.plan(CLIPS[:2], toy.ARRAYS).pending
        with writer.unit(work) as unit:
            toy.fill(unit)
            unit.seal()
            assert unit.put_record({})
        assert not list(tmp_path.glob("c/visual/*/c.*"))
        toy.assert_sound(tmp_path / "c", CLIPS[:2])


def test_values_that_cannot_be_stored_are_refused(tmp_path):
    with toy.begin(tmp_path / "c") as writer:
        (work,) = writer.plan([("a", 2, "")], toy.ARRAYS).pending
        with writer.unit(work) as unit:
            overflow = np.full((3, 8), 70000, np.float32)
            with np.errstate(over="ignore"):
                half = overflow.astype(np.float16)
            with pytest.raises(UsageError, match=r"float16 overflow in a/visual/blocks\.3, use --dtype float32"):
                unit.write(toy.BLOCK.name, 0, half)
            with pytest.raises(UsageError, match="NaN in a/"):
                unit.write(toy.LARGE.name, 0, np.full((130, 129), np.nan, np.float32))
            unit.write(toy.BLOCK.name, 0, np.full((3, 8), 65504, np.float16))
            for name, row, value, words in (
                (toy.BLOCK.name, 1, overflow, "float16 of shape"),
                (toy.BLOCK.name, 1, half[:2], "float16 of shape"),
                (toy.BLOCK.name, 2, half, "belongs to no clip"),
                (toy.BLOCK.name, 0, half, "written already"),
                ("visual/blocks.4", 0, half, "did you mean"),
            ):
                with pytest.raises(UsageError, match=words):
                    unit.write(name, row, value)
            with pytest.raises(UsageError, match="lacks its segment"):
                unit.clip_done(work.clips[0], toy.masks(work.clips[0]), {})
            with pytest.raises(UsageError, match="neither done nor rejected"):
                unit.commit()
        assert toy.left_temporaries(tmp_path / "c") == []


def test_create_refuses_foreign_folders_and_open_says_what_is_missing(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(UsageError, match=name):
            toy.begin(tmp_path / name)
    for attempt in (open_cache, CacheWriter.open, progress_of):
        for name in ("nothing", "full"):
            with pytest.raises(UsageError, match=name):
                attempt(tmp_path / name)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_an_environment_that_lacks_and_leaves_no_temporaries(tmp_path, monkeypatch):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:2])
    before = open_cache(path).content_hash()
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS[2:4], toy.ARRAYS).pending
        monkeypatch.setattr("avpipe.pipeline.cache.durable.os.fsync", _no_space)
        with pytest.raises(EnvironmentLacking, match=r"cannot write .*No space.*run the same command again"):
            toy.commit(writer, work)
        monkeypatch.undo()
        assert toy.left_temporaries(path) == []
    assert open_cache(path).content_hash() == before
    toy.extract(path, CLIPS[:4])
    toy.assert_sound(path, CLIPS[:4])


def _no_space(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_status_and_lookup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)
    with pytest.raises(UsageError, match="looked for cache"):
        resolve_cache(None)
    toy.extract(tmp_path / "cache" / "old", CLIPS[:1])
    with toy.begin(tmp_path / "cache" / "new") as writer:
        plan = writer.plan(CLIPS, toy.ARRAYS)
        for work in plan.pending[:2]:
            toy.commit(writer, work, reject={CLIPS[1][0]})
    assert resolve_cache(None) == Path("cache/new")
    monkeypatch.setenv("AVPIPE_CACHE", str(tmp_path / "cache" / "old"))
    assert resolve_cache(None) == tmp_path / "cache" / "old"
    assert resolve_cache(Path("cache/new")) == Path("cache/new")
    with pytest.raises(UsageError, match="is no cache"):
        resolve_cache(Path("cache"))
    state = progress_of(Path("cache/new"))
    done = [clip for work in plan.pending[:2] for clip in work.clips if clip.id != CLIPS[1][0]]
    assert state["clips"] == {"planned": 9, "done": len(done), "left": 8 - len(done), "quarantined": 1}
    assert state["segments"]["done"] == sum(clip.segments for clip in done)
    assert state["units"] == {"planned": len(plan.pending), "committed": 2}
    assert state["segments_per_second"] > 0
    assert state["eta_seconds"] == pytest.approx(state["segments"]["left"] / state["segments_per_second"])
    assert state["work_seconds"] == {"toy": 1.0}
