"""Features that others have released become taps: every released layout, odd files, kills, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from avpipe.cli.cache import show_command
from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import CacheWriter, verify
from avpipe.pipeline.cache_import import SourceRequest, import_features, load_for_import, parse_source
from avpipe.pipeline.cache_import.axes import infer_axes, parse_axes, row_shape, tokens
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import CacheMismatch, UsageError
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.timeline import Timeline


def made_of(clips, name="llp", root=Path()) -> Dataset:
    """A dataset that is nothing but clips."""
    return Dataset(name, root, "parsing", ("Dog",), Timeline(), tuple(clips), ())


def llp(count: int, segments: int = 10) -> Dataset:
    """Clips as LLP names them: the id of the recording and the seconds."""
    ids = [f"{'-' if n % 2 else 'a'}b_cDefgh{n:02d}" for n in range(count)]
    return made_of(Clip(f"{id}_{n}_{n + 10}", segments, video=Path(f"{id}.mp4"), source=id) for n, id in enumerate(ids))


def fill(folder: Path, dataset: Dataset, *shape: int, seed: int = 0) -> dict[str, np.ndarray]:
    """`<id>.npy` for each clip, under the name of its recording; the values by clip."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    values = {clip.id: rng.normal(size=shape).astype(np.float32) for clip in dataset.clips}
    for clip in dataset.clips:
        np.save(folder / f"{clip.source or clip.id}.npy", values[clip.id])
    return values


def read(cache: Path, clip: str, array: str) -> np.ndarray:
    found = open_cache(cache)
    return found.read(found.rows([clip]), [array])[array]


def audio(path: Path, name: str = "vggish", axes: str = "") -> SourceRequest:
    return SourceRequest("audio", name, path, axes)


def visual(path: Path, name: str = "res") -> SourceRequest:
    return SourceRequest("visual", name, path)


def test_features_as_released_for_llp_are_taps_bit_for_bit(tmp_path):
    dataset, cache = llp(3), tmp_path / "c"
    heard = fill(tmp_path / "vggish", dataset, 10, 128)
    seen = fill(tmp_path / "res152", dataset, 80, 2048, seed=1)
    moved = fill(tmp_path / "r2plus1d_18", dataset, 10, 512, seed=2)
    sources = [
        audio(tmp_path / "vggish"),
        visual(tmp_path / "res152", "res152"),
        visual(tmp_path / "r2plus1d_18", "r21d"),
    ]
    summary = import_features(dataset, cache, sources, dtype="float32")
    assert (summary.clips, summary.imported, summary.left, summary.quarantined) == (3, 3, 0, ())
    for clip in heard:
        assert np.array_equal(read(cache, clip, "audio/vggish@float32"), heard[clip][:, None])
        assert np.array_equal(read(cache, clip, "visual/res152@float32"), seen[clip].reshape(10, 8, 2048))
        assert np.array_equal(read(cache, clip, "visual/r21d@float32"), moved[clip][:, None])
    assert verify(cache).ok
    rows = open_cache(cache).clips()[next(iter(heard))]
    assert rows.masks["audio"].all()
    assert rows.masks["visual"].all()
    said = rows.provenance["visual/res152@float32"]
    file = tmp_path / "res152" / f"{dataset.clips[0].source}.npy"
    assert f"res152/{file.name}, {file.stat().st_size}:" in said


def test_a_grid_with_channels_first_becomes_tokens(tmp_path):
    dataset = made_of([Clip("00000093", 6), Clip("sa00000012", 6)], "music-avqa")
    values = fill(tmp_path / "14x14", dataset, 6, 512, 14, 14)
    import_features(dataset, tmp_path / "c", [visual(tmp_path / "14x14", "res18_14x14")])
    for clip, grid in values.items():
        expected = grid.transpose(0, 2, 3, 1).reshape(6, 196, 512).astype(np.float16)
        assert np.array_equal(read(tmp_path / "c", clip, "visual/res18_14x14"), expected)


ROWS = [
    "Bark&aaaaaaaaaaa&good&0&10",
    "Cat&-bbbbbbbbbb&good&2&6",
    "Truck&aaaaaaaaaaa&good&0&9",
    "Cat&ccccccccccc&good&0&3",
]


@pytest.fixture
def ave(tmp_path) -> Dataset:
    folder = tmp_path / "ave" / "AVE_Dataset"
    folder.mkdir(parents=True)
    (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(ROWS) + "\n")
    for split, rows in (("train", ROWS[2:]), ("val", ROWS[1:2]), ("test", ROWS[:1])):
        (folder / f"{split}Set.txt").write_text("\n".join(rows) + "\n")
    return load_dataset("ave", tmp_path / "ave")


def write_h5(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["avadataset"] = values
    return path


def test_an_h5_file_follows_the_rows_of_ave_whose_doubled_videos_are_one_clip(ave, tmp_path):
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(4, 10, 128))
    heard[2] = heard[0]
    seen = rng.normal(size=(4, 10, 7, 7, 512)).astype(np.float32)
    sources = [
        audio(write_h5(tmp_path / "audio_feature.h5", heard)),
        visual(write_h5(tmp_path / "visual_feature.h5", seen)),
    ]
    summary = import_features(ave, tmp_path / "c", sources, dtype="float32")
    assert (summary.clips, summary.quarantined) == (3, ())
    (note,) = summary.notes  # the sound of the doubled rows is equal
    assert "visual/res@float32, clip 'aaaaaaaaaaa'" in note
    assert "rows 0 and 2 of it differ; row 0 is taken" in note
    for row, clip in ((0, "aaaaaaaaaaa"), (1, "-bbbbbbbbbb"), (3, "ccccccccccc")):
        assert np.array_equal(read(tmp_path / "c", clip, "visual/res@float32"), seen[row].reshape(10, 49, 512))
        assert np.array_equal(read(tmp_path / "c", clip, "audio/vggish@float32")[:, 0], heard[row].astype(np.float32))


@pytest.mark.parametrize("rows", [3, 5])
def test_a_table_that_does_not_fit_the_annotations_is_refused(ave, tmp_path, rows):
    path = write_h5(tmp_path / "a.h5", np.zeros((rows, 10, 128)))
    with pytest.raises(UsageError, match=rf"{rows} rows, .*Annotations.txt has 4.*twice included"):
        import_features(ave, tmp_path / "c", [audio(path)])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_table_with_ids_serves_any_dataset(tmp_path, save):
    dataset = llp(3)
    values = np.random.default_rng(0).normal(size=(4, 10, 8)).astype(np.float32)
    ids = [dataset.clips[2].source, "of no clip", dataset.clips[0].id, dataset.clips[1].source]
    save(tmp_path / "all.npz", ids=np.array(ids), features=values)
    summary = import_features(dataset, tmp_path / "c", [audio(tmp_path / "all.npz")], dtype="float32")
    assert (summary.clips, summary.quarantined) == (3, ())
    for clip, row in zip(dataset.clips, (2, 3, 0), strict=True):
        assert np.array_equal(read(tmp_path / "c", clip.id, "audio/vggish@float32")[:, 0], values[row])


def test_a_table_without_ids_is_refused_where_no_order_is_known(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((3, 10, 8)))
    with pytest.raises(UsageError, match="does not say which row is of which clip"):
        import_features(llp(3), tmp_path / "c", [audio(tmp_path / "all.npy")])


def test_an_h5_file_opens_no_other_file(ave, tmp_path):
    write_h5(tmp_path / "other.h5", np.ones((4, 10, 128)))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["avadataset"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "avadataset")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 10, 128), np.float64)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "avadataset", (4, 10, 128))
        file.create_virtual_dataset("avadataset", layout)
    raw = [(str(tmp_path / "other.h5"), 0, 4 * 10 * 128 * 8)]
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("avadataset", (4, 10, 128), np.float64, external=raw)
    for name in ("link", "virtual", "raw"):
        with pytest.raises(UsageError, match=r"found none"):
            import_features(ave, tmp_path / "c", [audio(tmp_path / f"{name}.h5")])


def odd_files(folder: Path, names: list[str]) -> dict[str, str]:
    """Damages the files of some clips, each in another way: name -> what has to be said."""
    good = np.load(folder / f"{names[0]}.npy")
    nan, infinite = good.copy(), good.astype(np.float64)
    nan[3, 4], infinite[9, 0] = np.nan, np.inf
    whole = (folder / f"{names[0]}.npy").read_bytes()
    makers = {
        "no such file": lambda path: None,
        "empty (0 bytes)": lambda path: path.write_bytes(b""),
        "pointer, not the file itself": lambda path: path.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        "a text file (an HTML page), not features": lambda path: path.write_text("<html>404</html>"),
        "a pickle, which is never loaded": lambda path: path.write_bytes(b"\x80\x04\x95"),
        "holds pickled objects": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        "truncated": lambda path: path.write_bytes(whole[:-1]),
        "no readable npy header": lambda path: path.write_bytes(whole[:40]),
        "NaN in segment 3": lambda path: np.save(path, nan),
        "infinity in segment 9": lambda path: np.save(path, infinite),
        "1e+200 in segment 0 is beyond float32": lambda path: np.save(path, np.full((10, 8), 1e200)),
        "9 rows for 10 segments": lambda path: np.save(path, good[:9]),
        "0 rows for 10 segments": lambda path: np.save(path, good[:0]),
        "shape [20, 8] makes 2 x 8 a segment, other clips have 1 x 8": lambda path: np.save(path, good.repeat(2, 0)),
        "shape [10, 8, 1] does not have the axes TC": lambda path: np.save(path, good[..., None]),
        "holds complex64, not numbers": lambda path: np.save(path, good.astype(np.complex64)),
        "no plain file": os.mkfifo,
    }
    expected = {}
    for name, (said, make) in zip(names[1:], makers.items(), strict=False):
        path = folder / f"{name}.npy"
        path.unlink()
        make(path)
        expected[name] = said
    assert len(expected) == len(makers)
    return expected


def test_odd_files_are_quarantined_by_name_and_tried_again_when_they_change(tmp_path):
    dataset, folder, cache = llp(21), tmp_path / "vggish", tmp_path / "c"
    values = fill(folder, dataset, 10, 8)
    ids = {clip.source: clip.id for clip in dataset.clips}
    expected = odd_files(folder, list(ids))
    summary = import_features(dataset, cache, [audio(folder)])
    assert (summary.clips, summary.imported) == (21 - len(expected), 21 - len(expected))
    reasons = {entry.clip: entry.reason for entry in summary.quarantined}
    assert reasons.keys() == {ids[name] for name in expected}
    for name, said in expected.items():
        assert said in reasons[ids[name]], (said, reasons[ids[name]])
        assert reasons[ids[name]].startswith("audio/vggish: ")
    good = {clip: array for clip, array in values.items() if clip not in reasons}
    for clip, array in good.items():
        assert np.array_equal(read(cache, clip, "audio/vggish")[:, 0], array.astype(np.float16))
    records = sorted((cache / "ledger" / "records").iterdir())
    again = import_features(dataset, cache, [audio(folder)])
    assert (again.imported, len(again.quarantined)) == (0, len(expected))
    assert sorted((cache / "ledger" / "records").iterdir()) == records
    for name in expected:  # they are fetched again
        (folder / f"{name}.npy").unlink(missing_ok=True)
    fill(folder, dataset, 10, 8)
    mended = import_features(dataset, cache, [audio(folder)])
    assert (mended.clips, mended.imported, mended.quarantined) == (21, len(expected), ())


def test_a_source_that_fits_no_clip_says_why_before_anything_is_written(tmp_path):
    dataset = llp(4)
    fill(tmp_path / "vggish", dataset, 9, 128)
    with pytest.raises(UsageError, match=r"no usable features of any of 4 clips; 4 times: 9 rows for 10 segments"):
        import_features(dataset, tmp_path / "c", [audio(tmp_path / "vggish")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.pkl").touch()
    with pytest.raises(UsageError, match=r"no \.npy file \(it holds 'x.pkl'\)"):
        import_features(dataset, tmp_path / "c", [audio(tmp_path / "empty")])
    assert not (tmp_path / "c").exists()


def test_the_shape_of_most_clips_counts_not_that_of_the_first(tmp_path):
    dataset = llp(6)
    fill(tmp_path / "vggish", dataset, 10, 128)
    np.save(tmp_path / "vggish" / f"{dataset.clips[0].source}.npy", np.zeros((10, 64)))
    summary = import_features(dataset, tmp_path / "c", [audio(tmp_path / "vggish")])
    assert [entry.clip for entry in summary.quarantined] == [dataset.clips[0].id]
    assert summary.clips == 5


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from avpipe.pipeline.cache.unit import UnitWriter
from avpipe.pipeline.cache_import import import_features
import test_cache_import as toy
seal, calls = UnitWriter.seal, []
def sealing(unit):
    calls.append(unit)
    seal(unit)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
UnitWriter.seal = sealing
import_features(toy.llp(10), Path({cache!r}), [toy.audio(Path({folder!r}))], unit_segments=20)
"""


def test_files_that_claim_more_than_memory_holds_are_refused_before_they_are_read(ave, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("avadataset", (4, 10, 2**30), np.float32, chunks=(1, 1, 1024))
    with pytest.raises(UsageError, match=r"a\.h5: one clip: 42949672960 bytes for values of shape \[10, 1073741824\]"):
        import_features(ave, tmp_path / "c", [audio(tmp_path / "a.h5")])
    dataset = llp(2)
    fill(tmp_path / "f", dataset, 10, 8)
    path = tmp_path / "f" / f"{dataset.clips[0].source}.npy"
    header = {"descr": "<f4", "fortran_order": False, "shape": (10, 2**30)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 40 * 2**30)
    with pytest.raises(UsageError, match=r"1 x 1073741824 a segment: are these features"):
        import_features(made_of(dataset.clips[:1]), tmp_path / "c", [audio(tmp_path / "f")])


def test_an_import_that_was_killed_goes_on(tmp_path):
    dataset, folder = llp(10), tmp_path / "vggish"
    fill(folder, dataset, 10, 8)
    whole = import_features(dataset, tmp_path / "whole", [audio(folder)], unit_segments=20)
    code = KILLED.format(tests=str(Path(__file__).parent), cache=str(tmp_path / "c"), folder=str(folder))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(open_cache(tmp_path / "c").clips()) == 4
    summary = import_features(dataset, tmp_path / "c", [audio(folder)])
    assert (whole.imported, summary.imported, summary.clips) == (10, 6, 10)
    assert open_cache(tmp_path / "c").content_hash() == open_cache(tmp_path / "whole").content_hash()
    assert verify(tmp_path / "c").ok
    assert not any((tmp_path / "c" / "ledger" / "tmp").iterdir())


def test_taps_and_codecs_are_added_to_an_imported_cache(tmp_path):
    dataset, cache = llp(3), tmp_path / "c"
    heard, seen = fill(tmp_path / "a", dataset, 10, 8), fill(tmp_path / "v", dataset, 20, 6)
    import_features(dataset, cache, [audio(tmp_path / "a")])
    before = {clip: read(cache, clip, "audio/vggish") for clip in heard}
    import_features(dataset, cache, [visual(tmp_path / "v")])
    summary = import_features(dataset, cache, [audio(tmp_path / "a")], dtype="float32")
    assert (summary.clips, summary.imported) == (3, 3)
    found = open_cache(cache)
    assert found.clips().keys() == heard.keys()
    assert set(found.arrays) == {"audio/vggish", "audio/vggish@float32", "visual/res"}
    for clip in heard:
        assert np.array_equal(read(cache, clip, "audio/vggish"), before[clip])
        assert np.array_equal(read(cache, clip, "audio/vggish@float32")[:, 0], heard[clip])
        assert np.array_equal(read(cache, clip, "visual/res"), seen[clip].reshape(10, 2, 6).astype(np.float16))


def test_a_clip_that_lacks_a_later_tap_keeps_what_it_has_until_all_is_asked_for(tmp_path, said):
    dataset, cache = llp(3), tmp_path / "c"
    fill(tmp_path / "a", dataset, 10, 8)
    fill(tmp_path / "v", dataset, 20, 6)
    lost = dataset.clips[1]
    (tmp_path / "v" / f"{lost.source}.npy").unlink()
    import_features(dataset, cache, [audio(tmp_path / "a")])
    summary = import_features(dataset, cache, [visual(tmp_path / "v")])
    assert ([entry.clip for entry in summary.quarantined], summary.clips) == ([lost.id], 2)
    assert len(open_cache(cache).clips(["audio/vggish"])) == 3
    fill(tmp_path / "v", dataset, 20, 6)
    assert import_features(dataset, cache, [visual(tmp_path / "v")]).clips == 2
    assert f"1 clips lack some of these features and keep what they have, such as {lost.id!r}" in "\n".join(said)
    summary = import_features(dataset, cache, [visual(tmp_path / "v"), audio(tmp_path / "a")])
    assert (summary.clips, summary.imported, summary.quarantined) == (3, 1, ())


def test_a_file_that_changes_after_its_import_is_named_and_not_taken(tmp_path, said):
    dataset, folder = llp(2), tmp_path / "a"
    fill(folder, dataset, 10, 8)
    import_features(dataset, tmp_path / "c", [audio(folder)])
    np.save(folder / f"{dataset.clips[1].source}.npy", np.zeros((10, 8), np.float32))
    before = open_cache(tmp_path / "c").content_hash()
    assert import_features(dataset, tmp_path / "c", [audio(folder)]).imported == 0
    assert f"files of 1 imported clips have changed since, such as {dataset.clips[1].id!r}" in "\n".join(said)
    assert open_cache(tmp_path / "c").content_hash() == before


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("avpipe.pipeline.progress.say", lines.append)
    return lines


def test_what_float16_cannot_hold_is_refused_with_the_way_out(tmp_path):
    dataset = llp(1)
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / f"{dataset.clips[0].source}.npy", np.full((10, 8), 70_000.0))
    with pytest.raises(UsageError, match=r"float16 overflow in .*use --dtype float32"):
        import_features(dataset, tmp_path / "c", [audio(tmp_path / "a")])
    assert import_features(dataset, tmp_path / "c", [audio(tmp_path / "a")], dtype="float32").clips == 1


def test_imported_and_extracted_features_are_never_mixed(toy_events, tmp_path):
    dataset = load_dataset("ave", toy_events.root)
    fill(tmp_path / "a", dataset, 10, 8)
    with pytest.raises(CacheMismatch, match="holds extracted audio features, and imported ones"):
        import_features(dataset, toy_events.cache, [audio(tmp_path / "a")])
    import_features(dataset, tmp_path / "c", [audio(tmp_path / "a")])
    with (
        CacheWriter.open(tmp_path / "c") as writer,
        pytest.raises(CacheMismatch, match="holds imported audio features, and extracted ones"),
    ):
        writer.declare("audio", {"backbone": {}}, {})
    with pytest.raises(UsageError, match="holds features of ave"):
        import_features(llp(2), tmp_path / "c", [audio(tmp_path / "a")])
    fill(tmp_path / "wide", dataset, 10, 9)
    with pytest.raises(CacheMismatch, match=r"rows of shape \(1, 8\), this run makes .* \(1, 9\)"):
        import_features(dataset, tmp_path / "c", [audio(tmp_path / "wide")])


def test_axes_are_told_by_the_shape_or_asked_for():
    assert [infer_axes(s, "x") for s in ((10, 128), (10, 9, 128), (10, 7, 7, 512), (60, 512, 14, 14))] == [
        "TC",
        "TNC",
        "THWC",
        "TCHW",
    ]
    for shape in ((10, 7, 7, 7), (10, 4, 5, 6), (10, 1, 2, 3, 4), (10,)):
        with pytest.raises(UsageError, match="--axes"):
            infer_axes(shape, "x")
    for text in ("NTC", "THW", "TCC", "T", "TXC", ""):
        with pytest.raises(UsageError, match="axes"):
            parse_axes(text)
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert row_shape((10, 3, 4, 5), "TCHW", 5) == (2 * 4 * 5, 3)
    assert tokens(values, parse_axes("tchw"))[1 * 20 + 3 * 5 + 2].tolist() == values[1, :, 3, 2].tolist()
    assert tokens(values, "THWC")[1 * 12 + 2 * 4 + 3].tolist() == values[1, 2, 3].tolist()


def test_axes_may_be_given(tmp_path):
    dataset = llp(2)
    grid = fill(tmp_path / "v", dataset, 10, 3, 4, 5)
    fill(tmp_path / "a", dataset, 10, 8)
    sources = [visual(tmp_path / "v"), audio(tmp_path / "a")]
    with pytest.raises(UsageError, match=r"visual/res .*has shape \[10, 3, 4, 5\]: say which axis is which"):
        import_features(dataset, tmp_path / "c", sources)
    with pytest.raises(UsageError, match="no source has 3 axes"):
        import_features(dataset, tmp_path / "c", sources, axes=["TCHW", "TCN"])
    with pytest.raises(UsageError, match="did you mean 'res'"):
        import_features(dataset, tmp_path / "c", sources, axes=["ress=TCHW"])
    import_features(dataset, tmp_path / "c", sources, axes=["res=TCHW"], dtype="float32")
    expected = np.moveaxis(grid[dataset.clips[0].id], 1, -1).reshape(10, 20, 3)
    assert np.array_equal(read(tmp_path / "c", dataset.clips[0].id, "visual/res@float32"), expected)


def test_values_in_column_order_are_read_right(tmp_path):
    dataset = llp(1)
    values = np.random.default_rng(0).normal(size=(10, 4, 6)).astype(">f4")
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / f"{dataset.clips[0].source}.npy", np.asfortranarray(values))
    import_features(dataset, tmp_path / "c", [audio(tmp_path / "a")], dtype="float32")
    assert np.array_equal(read(tmp_path / "c", dataset.clips[0].id, "audio/vggish@float32"), values)


def test_a_name_that_two_clips_share_is_no_clips_name(tmp_path):
    clips = [Clip(f"{folder}1", 10, video=Path(folder) / "1.mp4") for folder in "ab"]
    dataset = made_of([*clips, Clip("a/2", 10), Clip("c3", 10, frames=(Path("x/third/1.png"),))])
    for name in ("1", "2", "third", "a1"):
        (tmp_path / "v").mkdir(exist_ok=True)
        np.save(tmp_path / "v" / f"{name}.npy", np.zeros((10, 4)))
    summary = import_features(dataset, tmp_path / "c", [visual(tmp_path / "v")])
    assert [entry.clip for entry in summary.quarantined] == ["b1"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "nothing to import"),
        (["vggish"], "give NAME=PATH"),
        (["frames=a"], "cannot be the name of a tap"),
        (["x@int8=a"], "cannot be the name of a tap"),
        (["x.stats=a"], r"\.stats is kept for statistics of the tokens .* such as x_stats"),
        (["x=a", "x=a"], "two sources for audio/x"),
        (["x=gone"], "no such file or folder"),
        (["../x=a"], "is no array name"),
        (["x=notes.txt"], "give a folder of <id>.npy, or one file"),
        (["x=bad.h5"], "cannot be read"),
        (["x=bad.npz"], "cannot be read"),
    ],
)
def test_wrong_sources_are_refused(tmp_path, monkeypatch, sources, message):
    monkeypatch.chdir(tmp_path)
    dataset = llp(1)
    fill(tmp_path / "a", dataset, 10, 8)
    for name in ("notes.txt", "bad.h5", "bad.npz"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(UsageError, match=message):
        import_features(dataset, tmp_path / "c", [parse_source("audio", text) for text in sources])
    assert not (tmp_path / "c").exists()


def test_the_command(ave, tmp_path, avpipe, capsys):
    for name, values in (("audio", np.zeros((4, 10, 128))), ("visual", np.zeros((4, 10, 7, 7, 16)))):
        write_h5(tmp_path / f"{name}.h5", values)
    (tmp_path / "a").mkdir()
    for clip in ("aaaaaaaaaaa", "-bbbbbbbbbb"):
        np.save(tmp_path / "a" / f"{clip}.npy", np.zeros((10, 4)))
    command = ("cache", "import", "--dataset", "ave", "--root", ave.root)
    done = avpipe(*command, "--audio", "vggish=audio.h5", "--visual", "vgg19=visual.h5", "--json")
    summary = json.loads(done.stdout)
    assert (summary["cache"], summary["clips"], summary["imported"]) == ("cache/ave-imported", 3, 3)
    assert summary["arrays"] == ["audio/vggish", "visual/vgg19"]
    done = avpipe(*command, "--audio", "other=a", check=3)
    assert "cache/ave-imported: audio/other of 2 clips, 2 imported now, 1 quarantined" in done.stdout
    assert "quarantined ccccccccccc: audio/other: " in done.stdout
    show_command(tmp_path / "cache" / "ave-imported")
    assert "imported features" in capsys.readouterr().out


def test_clips_of_a_users_own_table_are_as_long_as_their_features(tmp_path):
    rows = ["clip,media,split,events"] + [f"c{n},gone{n}.mp4,{s},Bark@0-2" for n, s in enumerate(("train", "test"))]
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    for name, per_segment in (("a", 1), ("v", 3)):
        (tmp_path / name).mkdir()
        for n, segments in enumerate((4, 7)):
            np.save(tmp_path / name / f"c{n}.npy", np.full((segments * per_segment, 5), n))
    sources = [audio(tmp_path / "a"), visual(tmp_path / "v")]
    dataset = load_for_import(str(tmp_path / "mine.csv"), None, sources, tmp_path / "c")
    assert import_features(dataset, tmp_path / "c", sources).clips == 2
    assert {clip: rows.segments for clip, rows in open_cache(tmp_path / "c").clips().items()} == {"c0": 4, "c1": 7}
    assert open_cache(tmp_path / "c").arrays["visual/res"].row_shape == (3, 5)
