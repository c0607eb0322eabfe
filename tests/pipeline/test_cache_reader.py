"""The reader: every way of reading gives the rows that were written, whatever happens to the files meanwhile."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cache_toy as toy
import numpy as np
import psutil
import pytest

from avpipe.pipeline.cache import Cache, open_cache, putting, reading, sources
from avpipe.pipeline.cache.crew import Crew
from avpipe.pipeline.cache.filesystem import is_network
from avpipe.pipeline.cache.pieces import stretches
from avpipe.pipeline.cache.remaking import Remade
from avpipe.pipeline.cache.repair import repair
from avpipe.pipeline.errors import CorruptionFound, UsageError

CLIPS = toy.clips(12)
NAMES = [array.name for array in toy.ARRAYS]
ACCESS = ["auto", "mmap", "pread", "zarr"]


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "cache"
    toy.extract(path, CLIPS)
    return path


@pytest.fixture
def damaged(cache_path, tmp_path) -> Path:
    return Path(shutil.copytree(cache_path, tmp_path / "c"))


@pytest.fixture
def many_threads(monkeypatch):
    """Threads work on the toy's small reads too."""
    monkeypatch.setattr(reading, "_WORTH_THREADS", 0)


def _truth(cache: Cache) -> dict[int, tuple[str, int]]:
    clips = cache.clips().values()
    return {clip.start + segment: (clip.id, segment) for clip in clips for segment in range(clip.segments)}


def _assert_rows(cache: Cache, rows, read) -> None:
    truth = _truth(cache)
    for array in toy.ARRAYS:
        expected = [toy.value(clip, array, segment) for clip, segment in (truth[int(row)] for row in rows)]
        np.testing.assert_array_equal(read[array.name], np.stack(expected) if expected else read[array.name][:0])


def _remake(clip, arrays, raw):
    specs = {array.name: array for array in toy.ARRAYS}
    made = {n: np.stack([toy.value(clip.id, specs[n], s) for s in range(clip.segments)]) for n in arrays}
    return Remade(made, {"decoder": "toy 1"})


def _flip_a_byte(cache_path: Path, clip: str) -> Path:
    """Changes a byte of the clip's first row, in place."""
    victim = cache_path / toy.BLOCK.shard_key(0)
    data = bytearray(victim.read_bytes())
    data[bytes(data).index(toy.value(clip, toy.BLOCK, 0).tobytes())] ^= 1
    victim.write_bytes(data)
    return victim


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("check", ["first", "always", "never"])
@pytest.mark.parametrize("access", ACCESS)
def test_every_way_of_reading_is_exact(cache_path, many_threads, access, check, threads):
    cache = open_cache(cache_path)
    every = np.array(sorted(_truth(cache)))
    rng = np.random.default_rng(3)
    for rows in (every, every[::-1], rng.permutation(every), rng.choice(every, 40), np.repeat(every[:3], 3), every[:0]):
        read = cache.read(rows, NAMES, check=check, access=access, threads=threads)
        _assert_rows(cache, rows, read)


def test_rows_that_follow_each_other_are_one_stretch_up_to_the_end_of_a_unit():
    found = stretches(np.array([5, 6, 7, 8, 9, 3, 3, 4, 15, 16]), 8)
    assert found == [(0, 5, 0, 3), (1, 0, 3, 2), (0, 3, 5, 1), (0, 3, 6, 2), (1, 7, 8, 1), (2, 0, 9, 1)]
    assert stretches(np.empty(0, np.int64), 8) == []


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_out_is_filled_in_place_and_nothing_large_is_allocated(tmp_path, access):
    large = toy.ArraySpec("visual/large", (300, 1000), "float32")
    clips = [(f"c{i}", 4, "") for i in range(4)]
    toy.extract(tmp_path / "c", clips, [large])
    cache = open_cache(tmp_path / "c")
    rows = cache.rows([clip for clip, _, _ in clips])
    out = {large.name: np.full((len(rows), *large.row_shape), np.nan, np.float32)}
    for check in ("never", "always"):
        cache.read(rows, [large.name], out, check=check, access=access, threads=2)
        tracemalloc.start()
        read = cache.read(rows, [large.name], out, check=check, access=access, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert read[large.name] is out[large.name]
        assert peak < 200_000 < out[large.name].nbytes / 50
    expected = np.concatenate([[toy.value(clip, large, s) for s in range(n)] for clip, n, _ in clips])
    np.testing.assert_array_equal(out[large.name], expected)
    frozen = out[large.name].copy()
    frozen.flags.writeable = False
    with pytest.raises(UsageError, match="writable"):
        cache.read(rows, [large.name], {large.name: frozen})


@pytest.mark.parametrize(
    ("rows", "out", "message"),
    [
        ([1.9], None, "rows are integers, got float64"),
        (np.array([False, True]), None, r"got bool: np\.flatnonzero"),
        ([1], {}, "out has no array for 'visual/blocks.3'"),
        ([1], {toy.BLOCK.name: [0.0]}, "must be a numpy array, got list"),
        ([1, 2], {toy.BLOCK.name: np.empty((1, 3, 8), np.float16)}, r"of shape \(2, 3, 8\), got float16"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(cache_path, rows, out, message):
    with pytest.raises(UsageError, match=message):
        open_cache(cache_path).read(rows, [toy.BLOCK.name], out)


def test_a_relative_path_stays_the_same_folder(cache_path, monkeypatch):
    monkeypatch.chdir(cache_path.parent)
    cache = open_cache(cache_path.name)
    monkeypatch.chdir("/")
    for opened in (cache, pickle.loads(pickle.dumps(cache))):
        _assert_rows(opened, [0], opened.read([0], NAMES))


@pytest.mark.parametrize("option", [{"access": "mmmap"}, {"check": "firts"}])
def test_options_that_do_not_exist_are_refused(cache_path, option):
    with pytest.raises(UsageError, match=r"did you mean '(mmap|first)'"):
        open_cache(cache_path).read([0], NAMES, **option)


@pytest.mark.parametrize("access", ACCESS)
def test_a_missing_shard_is_an_error_whatever_reads_it(damaged, access):
    cache = open_cache(damaged)
    victim = damaged / toy.BLOCK.shard_key(0)
    victim.unlink()
    with pytest.raises(CorruptionFound, match="it is missing") as error:
        cache.read(cache.rows([CLIPS[0][0]]), [toy.BLOCK.name], access=access, check="never")
    for text in (repr(CLIPS[0][0]), toy.BLOCK.name, str(victim)):
        assert text in str(error.value)


@pytest.mark.parametrize("access", ["mmap", "pread", "zarr"])
def test_a_changed_byte_names_clip_tap_and_shard(damaged, many_threads, access):
    clip, segments, _ = next(c for c in CLIPS if c[1] > 2)
    cache = open_cache(damaged)
    unit = int(cache.rows([clip])[0]) // toy.UNIT_ROWS
    victim = damaged / toy.LARGE.shard_key(unit)
    data = bytearray(victim.read_bytes())
    data[bytes(data).index(toy.value(clip, toy.LARGE, segments - 1).tobytes()) + 77] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorruptionFound) as error:
        cache.read(sorted(_truth(cache)), NAMES, access=access, threads=3)
    for text in (f"clip {clip!r}", toy.LARGE.name, str(victim), "checksum"):
        assert text in str(error.value)


CUT_WHILE_MAPPED = """
    import os, sys
    import cache_toy as toy
    from avpipe.pipeline.cache import open_cache
    from avpipe.pipeline.errors import CorruptionFound

    cache = open_cache(sys.argv[1])
    rows = cache.rows([sys.argv[2]])
    cache.read(rows, [toy.LARGE.name], access=sys.argv[3])
    os.truncate(sys.argv[1] + "/" + toy.LARGE.shard_key(0), 5000)
    for attempt in ("never", "first", "always"):
        try:
            cache.read(rows, [toy.LARGE.name], access=sys.argv[3], check=attempt)
            sys.exit("it was read")
        except CorruptionFound as error:
            assert repr(sys.argv[2]) in str(error) or "clips" in str(error), error
    try:
        cache.view(sys.argv[2], toy.LARGE.name)
        sys.exit("it was viewed")
    except CorruptionFound:
        print("refused")
"""


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_a_file_that_is_cut_after_opening_is_an_error_and_no_crash(damaged, access):
    clip = next(c for c, n, _ in CLIPS if n > 2 and open_cache(damaged).rows([c])[0] < toy.UNIT_ROWS)
    code = textwrap.dedent(CUT_WHILE_MAPPED)
    done = subprocess.run(
        [sys.executable, "-c", code, str(damaged), clip, access],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(Path(toy.__file__).parent)},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr


@pytest.mark.parametrize("access", ["mmap", "pread", "zarr"])
@pytest.mark.parametrize("opened_before", [False, True])
def test_a_repair_by_somebody_else_is_taken_up_without_reopening(damaged, access, opened_before):
    clip = CLIPS[0][0]
    cache = open_cache(damaged)
    rows = cache.rows([clip])
    if opened_before:
        cache.read(rows, [toy.BLOCK.name], access=access)
    _flip_a_byte(damaged, clip)
    with pytest.raises(CorruptionFound):
        cache.read(rows, [toy.BLOCK.name], access=access, check="always")

    assert repair(damaged, lambda root: _remake).rows == 1
    for check in ("always", "first"):
        read = cache.read(rows, [toy.BLOCK.name], access=access, check=check)[toy.BLOCK.name]
        np.testing.assert_array_equal(read, [toy.value(clip, toy.BLOCK, s) for s in range(len(rows))])
    assert len(cache.view(clip, toy.BLOCK.name, check="always")) == len(rows)


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_a_repair_that_is_committed_but_not_moved_yet_is_read(damaged, monkeypatch, access):
    """What was damaged lies in the place still, and has the size and the stamp of what was made again."""
    clip, publish, met = CLIPS[0][0], putting.publish_files, []
    cache = open_cache(damaged)
    _flip_a_byte(damaged, clip)

    def read(opened):
        found = opened.read(opened.rows([clip]), [toy.BLOCK.name], access=access, check="always")[toy.BLOCK.name]
        np.testing.assert_array_equal(found[0], toy.value(clip, toy.BLOCK, 0))

    def read_before_it_is_moved(layout, files):
        met.append(read(cache))
        publish(layout, files)

    with pytest.raises(CorruptionFound):
        read(cache)
    monkeypatch.setattr(putting, "publish_files", read_before_it_is_moved)
    assert repair(damaged, lambda root: _remake).rows == 1
    assert met
    read(cache)
    read(open_cache(damaged))


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_a_file_that_was_put_back_is_taken_up_without_reopening(damaged, access):
    cache, clip = open_cache(damaged), CLIPS[0][0]
    sound = Path(shutil.copy(damaged / toy.BLOCK.shard_key(0), damaged.parent / "backup"))
    victim = _flip_a_byte(damaged, clip)
    for _ in range(2):
        with pytest.raises(CorruptionFound):
            cache.read(cache.rows([clip]), [toy.BLOCK.name], access=access)
    sound.replace(victim)
    assert len(cache.read(cache.rows([clip]), [toy.BLOCK.name], access=access)) == 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cut", [False, True])
def test_a_failed_read_lets_go_of_its_files_at_once(damaged, many_threads, threads, cut):
    cache = open_cache(damaged)
    victim = _flip_a_byte(damaged, CLIPS[0][0])
    if cut:
        os.truncate(victim, 100)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(CorruptionFound):
            cache.read(sorted(_truth(cache)), NAMES, threads=threads)
        shards = [weakref.ref(shard) for shard in cache._sources._shards._shards.values()]
        cache.close()
        assert shards
        deadline = time.monotonic() + 10  # a helper that has just been told that all is done may hold its piece
        while any(shard() for shard in shards) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [shard() for shard in shards if shard()] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_written_any_more_once_a_read_has_raised(error):
    """An error in the calling thread, outside of a piece, as Ctrl-C comes: here while it waits for its helpers."""
    begun, raised, late = threading.Event(), threading.Event(), []

    def do(piece):
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
        else:
            begun.set()
            time.sleep(0.2)
            late.append(raised.is_set())

    def stop(signum, frame):
        raise error

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(error):
            Crew(2).work(range(2), do, 2)
        raised.set()
        time.sleep(0.3)
        assert late == [False]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_reload_reads_what_is_new_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:6])
    cache = open_cache(path)
    toy.extract(path, CLIPS)
    read, names = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda self: names.append(self.name) or read(self))
    cache.reload()
    assert len(cache.clips()) == 12
    first = names.copy()
    cache.reload()
    assert names[len(first) :] == ["cache.json"]
    assert "00000000.0000.json" not in first
    monkeypatch.undo()
    _assert_rows(cache, sorted(_truth(cache)), cache.read(sorted(_truth(cache)), NAMES))
    assert cache.content_hash() == open_cache(path).content_hash()


def test_reload_opens_another_cache_in_the_same_place(tmp_path):
    path = tmp_path / "c"
    toy.extract(path, CLIPS[:6])
    cache = open_cache(path)
    shutil.rmtree(path)
    with pytest.raises(UsageError, match="no such folder"):
        cache.reload()
    toy.extract(path, CLIPS[6:], unit_rows=16)
    cache.reload()
    assert (sorted(cache.clips()), cache.unit_rows) == (sorted(clip for clip, _, _ in CLIPS[6:]), 16)
    _assert_rows(cache, sorted(_truth(cache)), cache.read(sorted(_truth(cache)), NAMES))


def test_threads_may_share_a_cache(cache_path, many_threads):
    cache = open_cache(cache_path)
    every = np.array(sorted(_truth(cache)))

    def read(seed: int) -> None:
        rows = np.random.default_rng(seed).choice(every, 30)
        _assert_rows(cache, rows, cache.read(rows, NAMES, threads=4, access=ACCESS[seed % 3]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(24)))
    cache.close()
    read(1)  # starts again


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_survives_fork_spawn_and_pickling(cache_path, many_threads, method):
    cache = open_cache(cache_path)
    rows = np.array(sorted(_truth(cache)))
    cache.read(rows, NAMES, threads=3)  # threads and shards are there before the fork
    _assert_rows(cache, rows, pickle.loads(pickle.dumps(cache)).read(rows, NAMES))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        _assert_rows(cache, rows, pool.submit(cache.read, rows, NAMES, threads=3).result(timeout=60))


def test_a_forked_child_reads_with_the_cache_that_it_inherits(cache_path, many_threads):
    cache = open_cache(cache_path)
    rows = np.array(sorted(_truth(cache)))
    cache.read(rows, NAMES, threads=3)
    cache._sources._shards._lock.acquire()  # as if another thread were opening a shard at that moment
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: _assert_rows(cache, rows, cache.read(rows, NAMES, threads=3)))
    child.start()
    child.join(30)
    cache._sources._shards._lock.release()
    assert child.exitcode == 0


def test_threads_of_a_child_find_all_fresh_or_begin_anew(cache_path, monkeypatch):
    """Were the process noted first, another thread of the child would take the parent's lock for its own."""
    cache = open_cache(cache_path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    made = sources.OpenShards
    seen = []
    monkeypatch.setattr(sources, "OpenShards", lambda: seen.append(cache._sources._process) or made())
    cache._sources.begin_anew_in_child()
    assert seen != [-1]
    assert cache._sources._process == -1


def test_views_show_the_mapped_rows_and_keep_the_file_mapped(cache_path):
    cache = open_cache(cache_path)
    for clip, segments, _ in CLIPS:
        for array in toy.ARRAYS:
            view = cache.view(clip, array.name, check="always")
            expected = np.stack([toy.value(clip, array, segment) for segment in range(segments)])
            np.testing.assert_array_equal(view, expected)
            assert view.shape == expected.shape
            assert not view.flags.writeable
            assert not view.flags.owndata
    cache.close()
    del cache
    np.testing.assert_array_equal(view, expected)


def test_views_check_and_refuse(damaged):
    with toy.begin(damaged.parent / "backwards") as writer:
        (work,) = writer.plan([("a", 3, "")], [toy.BLOCK]).pending
        with writer.unit(work) as unit:
            for segment in (1, 0, 2):
                unit.write(toy.BLOCK.name, segment, toy.value("a", toy.BLOCK, segment))
            unit.clip_done(work.clips[0], toy.masks(work.clips[0]), {})
            assert unit.commit()
    backwards = open_cache(damaged.parent / "backwards")
    with pytest.raises(UsageError, match="use `read`"):
        backwards.view("a", toy.BLOCK.name)
    read = backwards.read([0, 1, 2], [toy.BLOCK.name])[toy.BLOCK.name]
    np.testing.assert_array_equal(read, [toy.value("a", toy.BLOCK, segment) for segment in range(3)])
    with pytest.raises(UsageError, match="not in"):
        backwards.view("b", toy.BLOCK.name)

    cache, clip = open_cache(damaged), CLIPS[0][0]
    _flip_a_byte(damaged, clip)
    with pytest.raises(CorruptionFound, match="checksum"):
        cache.view(clip, toy.BLOCK.name)
    assert cache.view(clip, toy.BLOCK.name, check="never").shape == (CLIPS[0][1], *toy.BLOCK.row_shape)


@pytest.mark.parametrize(
    ("kind", "network"),
    [("ext4", False), ("tmpfs", False), ("fuseblk", False), ("nfs4", True), ("fuse.sshfs", True), ("lustre", True)],
)
def test_auto_maps_on_local_file_systems_only(cache_path, monkeypatch, kind, network):
    mounts = [("/", "ext4"), (str(cache_path.parent), kind), (str(cache_path.parent) + "x", "nfs")]
    found = [SimpleNamespace(mountpoint=point, fstype=name) for point, name in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    assert is_network(cache_path) is network
    cache = open_cache(cache_path)
    assert cache.access == ("pread" if network else "mmap")
    rows = sorted(_truth(cache))
    _assert_rows(cache, rows, cache.read(rows, NAMES))
    opened = {access for _, _, access in cache._sources._shards._shards}
    assert opened == {cache.access}
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [])
    assert is_network(cache_path)  # unknown: rather slow than dead


def test_more_shards_than_may_be_open_are_read_in_turn(cache_path, many_threads, monkeypatch):
    cache = open_cache(cache_path)
    monkeypatch.setattr(cache._sources._shards, "_limit", 3)
    rows = np.random.default_rng(5).permutation(sorted(_truth(cache)))
    for access in ("mmap", "pread"):
        _assert_rows(cache, rows, cache.read(rows, NAMES, access=access, threads=3))
        assert len(cache._sources._shards._shards) <= 3
