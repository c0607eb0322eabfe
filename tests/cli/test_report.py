"""`avpipe report`: what it prints, and the exit codes of its errors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avpipe.cli.main import app

STUB = ("--visual", "stub", "--audio", "stub", "--weights")
SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=1")


def call(*args):
    """Runs the command in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def run(new_ave, tmp_path, monkeypatch):
    """A run on eight clips, two of them test, never scored."""
    monkeypatch.chdir(tmp_path)
    for variable in ("AVPIPE_DATA", "AVPIPE_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    new_ave(tmp_path / "data" / "ave").add(8)
    assert call("extract", "--dataset", "ave", *STUB, "random:0").exit_code == 0
    assert call("train", "--run", "run", *SMALL).exit_code == 0
    return Path("run")


def test_report(run):
    done = call("report", "--run", run)
    path, counts, *notes = done.stdout.splitlines()
    assert (done.exit_code, path) == (0, "run/report.html")
    page = (run / "report.html").read_bytes()
    assert counts.startswith(f"{len(page) / 1e6:.1f} MB; 2 of 2 clips in detail, 2 of them with their video; ")
    assert all(note.startswith("note: ") for note in notes)
    assert b"video/mp4" in page
    assert (run / "metrics.json").exists()
    summary = json.loads(
        call("report", "--run", run, "--clips", 1, "--out", "one.html", "--no-layers", "--json").stdout
    )
    assert (summary["path"], summary["clips"], summary["details"]) == ("one.html", 2, 1)
    assert summary["bytes"] == Path("one.html").stat().st_size
    left_out = "The importance of layers was left out (`--no-layers`)."
    assert left_out in summary["notes"]
    assert {f"note: {note}" for note in summary["notes"] if note != left_out} == {
        note for note in notes if "importance of layers" not in note
    }
    assert call("extract", "--dataset", "ave", *STUB, "random:1", "--cache", "other").exit_code == 0
    (run / "best.safetensors").rename("best")
    for code, words, args in (
        (2, "is no run folder", ("--run", "nowhere")),
        (2, "does not exist", ("--run", run, "--out", "no/where.html")),
        (2, "ends in .html", ("--run", run, "--out", run / "config.yaml")),
        (2, "ends in .html", ("--run", run, "--out", "-")),
        (2, "ends in .html", ("--run", run, "--out", "")),
        (2, "nope is no run folder", ("--run", run, "--beside", "nope")),
        (2, "best.safetensors is missing", ("--run", run)),
    ):
        error = call("report", *args).exception
        assert (error.exit_code, words in str(error)) == (code, True), error
    Path("best").rename(run / "best.safetensors")
    error = call("report", "--run", run, "--cache", "other").exception
    assert (error.exit_code, "fingerprint" in str(error)) == (4, True), error
