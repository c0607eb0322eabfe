"""Every wrong request or input: one clear line, the documented exit code, and nothing written is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avpipe.pipeline import open_cache

AVPIPE = Path(sys.executable).with_name("avpipe")
TEST_VIT = ("--visual", "test_vit", "--audio", "test_vit")
STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")


def _message(done) -> str:
    """The last line on stderr: the error."""
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def cached(own_ave, avpipe_here, tmp_path):
    """An extracted dataset of six clips in `tmp_path`; returns its cache."""
    avpipe_here("extract", "--dataset", "ave", *STUB)
    return tmp_path / "cache" / "ave"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--dataset", "avee"), 2, "unknown dataset 'avee': did you mean 'ave'?"),
        (("--dataset", "ave", "--visual", "vit_bse_patch16_224"), 2, "did you mean 'vit_base_patch16_224'?"),
        (("--dataset", "ave", *STUB, "--layers", "block.3"), 2, "unknown layer 'block.3': did you mean 'blocks.3'?"),
        (("--dataset", "ave", *STUB, "--layers", "last:none"), 2, "last:K needs a positive number"),
        (("--dataset", "ave", *STUB, "--dtype", "float61"), 2, "did you mean 'float16'?"),
        (("--dataset", "ave", *STUB, "--decoder", "decrod"), 2, "did you mean 'decord'?"),
        (("--dataset", "ave", *STUB[:4], "--weights", "none.safetensors"), 2, "random weights only"),
        (("--dataset", "ave", *TEST_VIT, "--weights", "none.safetensors"), 2, "does not exist"),
        (("--dataset", "ave", "--visual", "stub", "--audio", "stub", "--weights", "random"), 2, "need a seed"),
        (("--dataset", "ave", "--root", "nowhere", *STUB), 2, "nowhere"),
        (("--dataset", "ave", *STUB, "--device", "gpu"), 2, "unknown device 'gpu'"),
        (("--dataset", "ave", *STUB, "--deadline", "nan"), 2, "deadline"),
        (("--dataset", "ave", *STUB, "--batch", "0"), 2, "--batch"),
        (("--dataset", "ave", *TEST_VIT, "--weights", "random:0", "--device", "cuda:99"), 6, "GPUs here"),
        (("--dataset", "ave", "--visual", "test_vit"), 6, "HTSAT_AudioSet_Saved_1.ckpt"),
        (("--dataset", "ave", *TEST_VIT), 6, "--weights"),
    ],
)
def test_wrong_requests(own_ave, avpipe_here, tmp_path, options, code, message):
    done = avpipe_here("extract", *options, check=code)
    assert message in done.stderr
    assert not (tmp_path / "cache").exists()


def test_no_data_says_what_was_looked_for(avpipe_here):
    done = avpipe_here("extract", "--dataset", "avsbench", check=2)
    assert "data/avsbench" in done.stderr
    assert "avpipe data make" in done.stderr


def test_bad_videos_are_quarantined_and_retried_once_mended(own_ave, avpipe, avpipe_here, tmp_path):
    empty, text, missing = own_ave.ids[0], own_ave.ids[1], own_ave.ids[2]
    good = own_ave.video(empty).read_bytes()
    own_ave.video(empty).write_bytes(b"")
    own_ave.video(text).write_text("this is no video\n" * 100)
    own_ave.video(missing).unlink()
    done = avpipe("extract", "--dataset", "ave", *STUB, check=3)
    assert "3 quarantined" in done.stdout
    reasons = {
        line.split()[1].rstrip(":"): line for line in done.stdout.splitlines() if line.startswith("  quarantined")
    }
    assert set(reasons) == {empty, text, missing}
    assert "empty" in reasons[empty]
    assert "empty" not in done.stderr  # each is named once
    cache = open_cache(tmp_path / "cache" / "ave")
    assert sorted(cache.clips()) == sorted(own_ave.ids[3:])
    before = {clip: cache.read(cache.rows([clip]), ["visual/blocks.3"])["visual/blocks.3"] for clip in cache.clips()}
    again = avpipe_here("extract", "--dataset", "ave", *STUB, check=3)
    assert "0 of them now" in again.stdout
    own_ave.video(empty).write_bytes(good)
    mended = avpipe_here("extract", "--dataset", "ave", *STUB, check=3)
    assert "1 of them now, 2 quarantined" in mended.stdout
    cache.reload()
    assert sorted(cache.clips()) == sorted([empty, *own_ave.ids[3:]])
    for clip, tokens in before.items():
        assert (cache.read(cache.rows([clip]), ["visual/blocks.3"])["visual/blocks.3"] == tokens).all()
    avpipe_here("cache", "verify", "--cache", "cache/ave")


def test_a_bad_clip_is_forgotten_once_the_dataset_has_it_no_more(own_ave, avpipe_here):
    own_ave.video(own_ave.ids[0]).write_bytes(b"")
    avpipe_here("extract", "--dataset", "ave", *STUB, check=3)
    folder = own_ave.root / "AVE_Dataset"
    for file in folder.glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if own_ave.ids[0] not in line]
        file.write_text("\n".join(lines) + "\n")
    done = avpipe_here("extract", "--dataset", "ave", *STUB)
    assert "5 clips cached, 0 of them now, 0 quarantined" in done.stdout


def test_a_video_that_changed_after_it_was_cached_is_named(own_ave, cached, avpipe_here):
    before = open_cache(cached).content_hash()
    own_ave.video(own_ave.ids[1]).write_bytes(own_ave.video(own_ave.ids[2]).read_bytes())
    done = avpipe_here("extract", "--dataset", "ave", *STUB)
    assert own_ave.ids[1] in done.stderr
    assert "changed" in done.stderr
    assert open_cache(cached).content_hash() == before


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--visual", "stub", "--audio", "stub", "--weights", "random:1"), "weights.sha256"),
        ((*STUB, "--image-size", "64"), "input_size"),
        ((*STUB, "--batch", "4"), "batch"),
    ],
)
def test_a_cache_of_another_spec_is_refused(cached, avpipe_here, options, field):
    before = open_cache(cached).content_hash()
    done = avpipe_here("extract", "--dataset", "ave", *options, check=4)
    assert field in done.stderr
    assert "--cache" in done.stderr
    assert open_cache(cached).content_hash() == before


def test_a_damaged_record_is_corruption(cached, avpipe):
    record = next((cached / "ledger" / "records").glob("*.json"))
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    record.write_bytes(data)
    assert record.name in avpipe("cache", "verify", "--cache", cached, check=5).stdout
    assert record.name in avpipe("extract", "--dataset", "ave", *STUB, check=5).stderr


def test_a_target_that_cannot_be_written(own_ave, avpipe_here, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    done = avpipe_here("extract", "--dataset", "ave", *STUB, "--cache", file, check=2)
    assert str(file) in _message(done)


def test_a_target_that_cannot_be_made(own_ave, avpipe):
    assert "/proc/avpipe" in _message(avpipe("extract", "--dataset", "ave", *STUB, "--cache", "/proc/avpipe", check=6))


def test_annotations_without_rows_make_no_cache(own_ave, avpipe_here, tmp_path):
    for file in (own_ave.root / "AVE_Dataset").glob("*.txt"):
        file.write_text("")
    assert "has no row" in avpipe_here("extract", "--dataset", "ave", *STUB, check=2).stderr
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def tmpfs(tmp_path):
    """Mounts a memory file system of 6 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield small
    subprocess.run(["umount", str(small)], check=True)


def test_a_read_only_target(own_ave, avpipe_here, tmpfs):
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    done = avpipe_here("extract", "--dataset", "ave", *STUB, "--cache", tmpfs / "cache", check=6)
    assert str(tmpfs) in _message(done)
    assert "read-only" in _message(done).lower()


def test_a_full_disk_stops_cleanly_and_loses_nothing(tiny_ave, tiny_hash, avpipe, avpipe_here, tmpfs):
    command = ("extract", "--dataset", "ave", "--root", tiny_ave.root, *STUB, "--unit-segments", "10")
    done = avpipe(*command, "--cache", tmpfs / "cache", check=6)
    assert "space" in _message(done)
    kept = open_cache(tmpfs / "cache")
    committed, digest = list(kept.clips()), kept.content_hash()
    assert committed
    avpipe_here("cache", "verify", "--cache", tmpfs / "cache")
    subprocess.run(["mount", "-o", "remount,size=64m", str(tmpfs)], check=True)
    avpipe_here(*command, "--cache", tmpfs / "cache")
    kept.reload()
    assert set(committed) < set(kept.clips())
    assert digest != kept.content_hash()
    assert kept.content_hash() == tiny_hash


def test_strange_arguments_do_not_end_in_a_traceback(avpipe):
    for arguments in ((), ("extract",), ("nonsense",), ("extract", "--dataset")):
        done = subprocess.run([str(AVPIPE), *arguments], capture_output=True, text=True, cwd=Path("/"))
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
