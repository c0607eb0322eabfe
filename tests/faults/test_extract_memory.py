"""Extraction needs the same memory whatever the size of the data and of a unit: rows go to disk as they come."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import extracting
import psutil
import pytest

from avpipe.pipeline import open_cache

SIDE = 224
"""Pixels of the stored frames: 1.8 MB of frames and samples a clip."""


def _dataset(root: Path, videos: list[Path], count: int) -> Path:
    """A dataset in AVE's layout whose clips are links to a few videos."""
    media = root / "AVE_Dataset" / "AVE"
    media.mkdir(parents=True)
    names = [f"clip{number:06d}" for number in range(count)]
    for number, name in enumerate(names):
        os.link(videos[number % len(videos)], media / f"{name}.mp4")
    rows = [f"Church bell&{name}&good&0&9\n" for name in names]
    head = "Category&VideoID&Quality&StartTime&EndTime\n"
    (media.parent / "Annotations.txt").write_text(head + "".join(rows))
    for number, split in enumerate(("train", "val", "test")):
        (media.parent / f"{split}Set.txt").write_text("".join(rows[number::3]))
    return root


def _anonymous_bytes(process: psutil.Process) -> int:
    """Anonymous memory of a process and its children: what it keeps apart from mapped files."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
    return total


def _peak(root: Path, cache: Path, log: Path, segments: int) -> int:
    """Most anonymous memory of an extraction whose units have `segments` rows, in bytes."""
    options = ("--image-size", SIDE, "--unit-segments", segments)
    running, peak = extracting.start(root, cache, log, *options), 0
    process = psutil.Process(running.pid)
    while running.poll() is None:
        with suppress(psutil.Error, OSError):  # one has just ended
            peak = max(peak, _anonymous_bytes(process))
        time.sleep(0.005)
    extracting.finish(running)
    return peak


@pytest.mark.parametrize("clips", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_ten_times_the_data_in_ten_times_the_unit(tiny_ave, tmp_path, clips):
    videos = [tiny_ave.video(name) for name in tiny_ave.ids]
    peaks, sizes = [], []
    for count in (clips, 10 * clips):
        cache = tmp_path / f"c{count}"
        peaks.append(_peak(_dataset(tmp_path / str(count), videos, count), cache, tmp_path / "log", 10 * count))
        sizes.append(open_cache(cache).summary()["bytes"])
        assert len(open_cache(cache).clips()) == count
        assert extracting.records(cache) == 1
    shown = [f"{size / 1e6:.0f} MB of data: {peak / 1e6:.1f} MB" for size, peak in zip(sizes, peaks, strict=True)]
    print("\npeak anonymous memory, decoder included: " + "; ".join(shown))
    assert sizes[1] > 9 * sizes[0]
    assert peaks[1] - peaks[0] < 0.2 * (sizes[1] - sizes[0])
