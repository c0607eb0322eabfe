"""How many decoders there are, and that progress counts a rejected clip when it is rejected."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace

import extracting
import pytest
from typer.testing import CliRunner

from avpipe.cli.main import app
from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.media.readers import READERS
from avpipe.stages import clip_media
from avpipe.stages.clip_media import decoders_of
from avpipe.stages.extract import extract


@pytest.fixture
def job(own_ave, tmp_path):
    return extracting.stub_job(load_dataset("ave", own_ave.root), tmp_path / "c", "visual", "audio")


def test_never_more_than_clips(job, monkeypatch):
    monkeypatch.setattr(clip_media, "cores", lambda: 4)
    assert [decoders_of(job, clips=clips) for clips in (None, 9, 3, 0)] == [4, 4, 3, 1]
    asked = replace(job, decoders=20)
    assert [decoders_of(asked, clips=clips) for clips in (None, 30, 6)] == [20, 20, 6]


def test_far_more_than_cores_are_refused(job, monkeypatch):
    monkeypatch.setattr(clip_media, "cores", lambda: 2)
    assert decoders_of(replace(job, decoders=16)) == 16
    with pytest.raises(UsageError, match=r"--decoders 17: this machine has 2 cores, .* give fewer, or 0"):
        decoders_of(replace(job, decoders=17))
    with pytest.raises(UsageError, match="--decoders 6 in each of 3 workers"):
        decoders_of(replace(job, decoders=6), processes=3)
    monkeypatch.setattr(clip_media, "cores", lambda: 40)
    assert decoders_of(replace(job, decoders=320)) == 320


def test_an_extraction_starts_no_more_than_it_has_clips(own_ave, job, monkeypatch):
    started, make = [], clip_media.DecodePool

    def counted(spec, *, workers, **limits):
        started.append(workers)
        return make(spec, workers=1, **limits)

    monkeypatch.setattr(clip_media, "DecodePool", counted)
    extract(load_dataset("ave", own_ave.root), replace(job, decoders=16))
    assert started == [len(own_ave.ids)]


@pytest.mark.parametrize("bad", [5, 0])
def test_the_last_line_of_progress_counts_all_that_were_rejected(own_ave, job, bad):
    """The last clip is the one that a count by unit would miss."""
    own_ave.video(own_ave.ids[bad]).write_bytes(b"")
    notes: list[tuple[float, str]] = []

    class Noted:
        def begin(self, name, total, unit, done):
            return self

        def advance(self, amount=1, note=""):
            notes.append((amount, note))

        def end(self, task):
            pass

        say = end

    with _reporting(Noted()):
        done = extract(load_dataset("ave", own_ave.root), replace(job, decoders=1), unit_segments=20)
    assert len(done.quarantined) == 1
    assert notes[-1][1] == "1 quarantined"
    assert [note for _, note in notes] == ["" if number < bad else "1 quarantined" for number in range(6)]


@contextmanager
def _reporting(reporter):
    before = progress._reporter
    progress.use(reporter)
    try:
        yield
    finally:
        progress.use(before)


@pytest.mark.parametrize("command", [("extract",), ("quarantine", "retry"), ("bench", "extract")])
def test_help_names_every_decoder(command):
    text = " ".join(CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "400"}).output.split())
    named = re.search(r"--decoder \S+ (?:Decoder of video files: )?([\w, ]+?)\.? \[default", text)
    assert named, text
    assert set(re.split(r", | or ", named[1])) == set(READERS)
