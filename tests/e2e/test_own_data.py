"""A user's own table by command, from the first extraction to the scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from own_toy import OwnClip, write_tables

from avpipe.pipeline import open_cache

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
DEMO = ("--visual", "test_vit", "--image-size", "64", "--audio", "test_vit", "--weights", "demo")
BAD_ROWS = (
    "empty,,train,x@0-1",
    "gone,v/gone.mp4,train,x@0-1",
    "broken,v/broken.mp4,train,x@0-1",
    "late,v/aclip.1.mp4,train,x@2-30",
    "aclip.1,v/aclip.1.mp4,train,x@0-1",
    "unsplit,v/aclip.1.mp4,training,x@0-1",
    'open,v/aclip.1.mp4,train,"x@0-1',
)


@pytest.fixture
def own(tmp_path):
    """Writes `data/events.csv` and `data/masks.csv` of so many clips, with bad rows at the end of the first."""

    def write(count: int):
        data = tmp_path / "data"
        data.mkdir()
        clips = [OwnClip(number) for number in range(count)]
        write_tables(data, clips, videos=True)
        (data / "v" / "broken.mp4").write_bytes((data / "v" / "aclip.1.mp4").read_bytes()[:900])
        with (data / "events.csv").open("a") as file:
            file.write("\n".join(BAD_ROWS) + "\n")
        return clips

    return write


def test_a_table_is_extracted_once_and_read_alike_ever_after(own, avpipe, avpipe_here, tmp_path):
    clips = own(6)
    done = avpipe("extract", "--dataset", "data/events.csv", "segments=4", *STUB, "--json", check=3)
    said = (
        "no media",
        "is missing",
        "cannot open it",
        "goes on after 3 s",
        "already",
        "unknown split",
        "quotes that do not match",
    )
    for number, words in enumerate(said, start=len(clips) + 2):
        assert any(f"line {number}: " in line and words in line for line in done.stderr.splitlines()), words
    summary = json.loads(done.stdout)
    assert summary["clips"] == len(clips)
    assert {entry["clip"]: entry["stage"] for entry in summary["quarantined"]} == {"gone": "probe", "broken": "probe"}
    cache = open_cache(tmp_path / "cache" / "events")
    assert cache.dataset["options"] == {"segments": "4", "segment_seconds": "1", "frame_position": "0.5"}
    lengths = {clip: rows.segments for clip, rows in cache.clips().items()}
    assert lengths == {clip.name: min(4, clip.segments) for clip in clips}
    again = avpipe_here("extract", "--dataset", "data/events.csv", *STUB, "--json", check=3)
    assert json.loads(again.stdout)["extracted"] == 0
    refused = avpipe_here("extract", "--dataset", "data/events.csv", "segments=5", *STUB, check=2)
    assert "made with segments=4, not with segments=5" in refused.stderr
    shard = next(cache.path.glob("visual/blocks.3/c.*"))
    content = bytearray(shard.read_bytes())
    content[100:200] = bytes(100)
    shard.write_bytes(content)
    avpipe_here("cache", "repair")
    avpipe_here("cache", "verify")


@pytest.mark.slow
@pytest.mark.parametrize(("table", "metric", "better"), [("events", "accuracy", 0.15), ("masks", "miou", 0.05)])
def test_thirty_clips_of_different_lengths_by_command(own, avpipe, tmp_path, table, metric, better):
    clips = own(30)
    name, code = f"data/{table}.csv", 3 if table == "events" else 0
    avpipe("data", "check", "--dataset", name, check=code)
    avpipe("extract", "--dataset", name, *DEMO, check=code)
    avpipe("train", "--dataset", name, "--run", "run", "epochs=4")
    result = json.loads(avpipe("evaluate", "--run", "run", "--json").stdout)
    avpipe("report", "--run", "run")
    test = [clip for clip in clips if clip.split == "test"]
    assert result["metrics"].get("segments", result["metrics"].get("frames")) == sum(clip.segments for clip in test)
    control = next(iter(result["baselines"].values()))
    assert result["metrics"][metric] > control[metric] + better
    with np.load(tmp_path / "run" / "predictions-test.npz") as kept:
        assert dict(zip(kept["ids"].tolist(), kept["segments"].tolist(), strict=True)) == {
            clip.name: clip.segments for clip in test
        }
