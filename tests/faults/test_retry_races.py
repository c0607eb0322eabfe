"""Retries of quarantined clips side by side, and killed in the middle: one attempt, and the cache is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import extracting
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache.verify import verify

pytestmark = pytest.mark.slow


def _retry(cache: Path, log: Path, **environment: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, extracting.PROGRAM, "quarantine", "retry", "--cache", str(cache)],
        env={**os.environ, "EXTRACT_LOG": str(log), **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def mended(own_ave, tmp_path) -> Path:
    """A cache of six clips, two of which were quarantined and have been mended since."""
    sound = {clip: own_ave.video(clip).read_bytes() for clip in own_ave.ids[:2]}
    for clip in sound:
        own_ave.video(clip).write_bytes(b"")
    extracting.finish(extracting.start(own_ave.root, tmp_path / "c", tmp_path / "log"), code=3)
    for clip, content in sound.items():
        own_ave.video(clip).write_bytes(content)
    return tmp_path / "c"


@pytest.fixture
def sound_hash(own_ave, mended, tmp_path) -> str:
    """Content hash where all clips were sound from the start."""
    extracting.finish(extracting.start(own_ave.root, tmp_path / "sound", tmp_path / "log.sound"))
    return open_cache(tmp_path / "sound").content_hash()


def test_two_at_once_compute_each_clip_once(own_ave, mended, sound_hash, tmp_path):
    log = tmp_path / "log.retry"
    both = [_retry(mended, log, SLOW_MEDIA=1) for _ in range(2)]
    for process in both:
        extracting.finish(process)
    clips = [clip for clip, _ in extracting.pairs(extracting.computed(log))]
    assert {clip: clips.count(clip) for clip in set(clips)} == dict.fromkeys(own_ave.ids[:2], len(clips) // 2)
    assert len(extracting.pairs(extracting.computed(log))) == len(set(extracting.pairs(extracting.computed(log))))
    assert open_cache(mended).content_hash() == sound_hash
    assert not (mended / "ledger" / "quarantine.parquet").exists()
    assert verify(mended).ok


@pytest.mark.parametrize("point", ["a clip is done", "the unit is sealed", "the record is linked"])
def test_killed_in_the_middle(own_ave, mended, sound_hash, tmp_path, point):
    stopped = _retry(mended, tmp_path / "log.retry", STOP_BEFORE=point)
    os.waitpid(stopped.pid, os.WUNTRACED)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    left = open_cache(mended).quarantined()
    assert [(entry.clip, entry.attempts) for entry in left] == [(clip, 1) for clip in own_ave.ids[:2]]
    extracting.finish(_retry(mended, tmp_path / "log.again"))
    assert open_cache(mended).content_hash() == sound_hash
    assert verify(mended).ok
