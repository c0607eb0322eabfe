"""Clips, taps, codecs and the second modality may come later, in any order: every row is made once."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import extracting

from avpipe.pipeline import open_cache

AVPIPE = Path(sys.executable).with_name("avpipe")
FEW, MORE = "blocks.0", "blocks.0,blocks.3"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def _options(modality: str, layers: str = MORE, codec: str = "float16") -> list[str]:
    backbones = {
        "both": extracting.STUB,
        "visual": extracting.STUB[:2] + extracting.STUB[4:],
        "audio": ("--audio", "stub", *extracting.STUB[4:]),
    }
    return ["--modality", modality, *backbones[modality], "--layers", layers, "--dtype", codec]


def test_codecs_have_names_and_modalities_can_be_left_out(own_ave, avpipe_here, tmp_path):
    command = ("extract", "--dataset", "ave", "--cache", "c")
    avpipe_here(*command, *_options("audio", FEW, "float32"))
    arrays = {"audio/samples", "audio/blocks.0@float32", "audio/blocks.0@float32.stats"}
    assert set(open_cache(tmp_path / "c").arrays) == arrays
    assert open_cache(tmp_path / "c").arrays["audio/blocks.0@float32"].dtype == "float32"
    avpipe_here(*command, *_options("both", FEW))
    for name in own_ave.ids:
        own_ave.video(name).unlink()
    avpipe_here(*command, *_options("both", FEW, "float32"))
    kinds = ("", ".stats", "@float32", "@float32.stats")
    taps = {f"{m}/blocks.0{kind}" for m in ("visual", "audio") for kind in kinds}
    assert set(open_cache(tmp_path / "c").arrays) == {"audio/samples", "visual/frames"} | taps
    assert sorted(open_cache(tmp_path / "c").clips()) == sorted(own_ave.ids)


def test_options_of_a_modality_that_is_left_out(own_ave, avpipe_here, tmp_path):
    done = avpipe_here("extract", "--dataset", "ave", "--modality", "visual", *extracting.STUB, check=2)
    assert "--modality visual leaves audio out" in done.stderr
    done = avpipe_here("extract", "--dataset", "ave", "--modality", "visuel", *extracting.STUB, check=2)
    assert "did you mean 'visual'?" in done.stderr
    assert not (tmp_path / "cache").exists()


def _may_not_override_permissions() -> None:
    """Root may write wherever it likes, unless it gives that up for good."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_a_cache_that_cannot_be_written_and_lacks_nothing(own_ave, avpipe, tmp_path):
    command = ["extract", "--dataset", "ave", *extracting.STUB, "--cache", "c"]
    avpipe(*command)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")}
    for path in [tmp_path / "c", *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [AVPIPE, *command, *options],
            cwd=tmp_path,
            preexec_fn=_may_not_override_permissions,
            capture_output=True,
            text=True,
        )

    try:
        done = run()
        if not done.returncode:
            assert "6 clips cached, 0 of them now" in done.stdout
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        lacking = run("--dtype", "float32")
        assert lacking.returncode == 6, lacking.stderr
        assert "permission" in lacking.stderr
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")} == before
    finally:
        for path in [tmp_path / "c", *before]:
            path.chmod(0o755 if path.is_dir() else 0o644)
