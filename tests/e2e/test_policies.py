"""Policies for short and missing media by command, from options and files to the cache; and checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0", "--layers", "blocks.3")
ALL_IN = ("--missing-audio", "silence", "--missing-video", "blank")


def keep_only(path: Path, kind: str) -> None:
    """Leaves one track, `video` or `audio`, in a file."""
    with av.open(str(path)) as source, av.open(str(path.with_name("one track.mp4")), "w") as target:
        track = source.streams.best(kind)
        stream = target.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.with_name("one track.mp4").rename(path)


@pytest.fixture
def lame(own_ave):
    """Six clips, of which the first has no sound and the second no pictures."""
    keep_only(own_ave.video(own_ave.ids[0]), "video")
    keep_only(own_ave.video(own_ave.ids[1]), "audio")
    return own_ave


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def present(cache: Path, clip: str) -> dict[str, int]:
    """How many segments of a clip count as present, by modality."""
    return {modality: int(mask.sum()) for modality, mask in open_cache(cache).clips()[clip].masks.items()}


def test_clips_without_a_track_are_rejected_or_masked_and_repaired_alike(lame, avpipe_here, tmp_path):
    silent, blind = lame.ids[:2]
    said = avpipe_here("extract", "--dataset", "ave", *STUB, "--cache", "usual", check=3)
    assert "no audio track" in said.stdout
    assert "no video track" in said.stdout
    assert not {silent, blind} & open_cache(tmp_path / "usual").clips().keys()

    avpipe_here("extract", "--dataset", "ave", *STUB, "--cache", "all", *ALL_IN)
    cache = open_cache(tmp_path / "all")
    assert len(cache.clips()) == 6
    assert present(tmp_path / "all", silent) == {"visual": 10, "audio": 0}
    assert present(tmp_path / "all", blind) == {"visual": 0, "audio": 10}
    assert not cache.read(cache.rows([silent]), ["audio/samples"])["audio/samples"].any()
    assert np.unique(cache.read(cache.rows([blind]), ["visual/frames"])["visual/frames"]).tolist() == [128]
    assert cache.clips()[silent].provenance["audio_note"] == "no audio track: silence stands in"
    assert cache.specs["audio"].fields["media"]["missing_audio"] == "silence+mask"
    assert cache.specs["visual"].fields["media"]["missing_video"] == "grey+mask"

    expected = cache.content_hash()
    for shard in (tmp_path / "all" / "audio" / "samples").glob("c.*"):
        shard.unlink()
    avpipe_here("cache", "repair", "--cache", "all")
    assert open_cache(tmp_path / "all").content_hash() == expected


def test_a_cache_goes_on_with_its_policies_and_refuses_others(lame, avpipe_here, tmp_path):
    avpipe_here("extract", "--dataset", "ave", *STUB, *ALL_IN, "--short-clip", "repeat")
    lame.add(1)
    keep_only(lame.video(lame.ids[6]), "video")
    avpipe_here("extract", "--dataset", "ave", *STUB)
    assert present(tmp_path / "cache" / "ave", lame.ids[6]) == {"visual": 10, "audio": 0}
    lame.add(1)
    refused = avpipe_here("extract", "--dataset", "ave", *STUB, "--short-clip", "mask", check=4).stderr
    assert 'media.short_clip: cache has "repeat-last", this run has "' in refused
    assert "weights.sha256" not in refused
    refused = avpipe_here("extract", "--dataset", "ave", *STUB, "--missing-audio", "reject", check=4).stderr
    assert 'media.missing_audio: cache has "silence+mask", this run has "reject"' in refused
    for option in (("--short-clip", "mask"), ("--image-size", "16"), ("--visual", "stub", "--batch", "3")):
        foretold = avpipe_here("extract", "--dataset", "ave", *STUB, *option, "--dry-run", check=4).stderr
        assert avpipe_here("extract", "--dataset", "ave", *STUB, *option, check=4).stderr.endswith(foretold)
    assert "1 clips to extract" in avpipe_here("extract", "--dataset", "ave", *STUB, "--dry-run").stdout
    assert lame.ids[7] not in open_cache(tmp_path / "cache" / "ave").clips()


def test_files_that_are_not_what_their_checksums_say_are_quarantined(own_ave, avpipe_here, tmp_path):
    good, bad = (own_ave.video(name) for name in own_ave.ids[:2])
    lines = [f"{digest(path)}  {path.relative_to(own_ave.root)}" for path in (good, bad)]
    (own_ave.root / "sha256sums.txt").write_text("\n".join(lines) + "\n")
    bad.write_bytes(good.read_bytes())
    said = avpipe_here("extract", "--dataset", "ave", *STUB, check=3)
    assert f"{bad.relative_to(tmp_path)}: its SHA-256 is {digest(good)[:16]}" in said.stdout
    clips = open_cache(tmp_path / "cache" / "ave").clips()
    assert own_ave.ids[1] not in clips
    assert clips[own_ave.ids[0]].provenance["sha256"] == "video"
    assert "sha256" not in clips[own_ave.ids[2]].provenance
    checked = avpipe_here("data", "check", "--dataset", "ave", check=3).stdout
    assert "fault: checksum (1)" in checked
    assert str(bad.relative_to(tmp_path)) in checked
    assert "checksum" not in avpipe_here("data", "check", "--dataset", "ave", "--quick", check=3).stdout


def test_a_table_of_one_s_own_names_policies_and_checksums(own_ave, avpipe_here, tmp_path):
    files = [own_ave.video(name) for name in own_ave.ids[:3]]
    keep_only(files[1], "video")
    own = tmp_path / "own"
    own.mkdir()
    rows = [f"clip{n},{path},train,{digest(path)},bang@1-2" for n, path in enumerate(files)]
    rows[2] = rows[2].replace(digest(files[2]), digest(files[0]).upper())
    rows.append(f"short,{files[0]},train,{digest(files[0])[:-1]},bang@1-2")
    rows.append(f"none,{files[0]},train,,bang@1-2")
    (own / "t.csv").write_text("\n".join(["clip,media,split,media_sha256,events", *rows]) + "\n")
    (own / "t.yaml").write_text("table: t.csv\nmedia: {missing_audio: silence}\n")
    found = load_dataset(str(own / "t.yaml"))
    assert [f.kind for f in found.findings if f.level == "fault"] == ["bad-checksum"]
    assert found.media == {"missing_audio": "silence"}
    said = avpipe_here("extract", "--dataset", own / "t.yaml", *STUB, check=3)
    assert "its SHA-256 is" in said.stdout
    clips = open_cache(tmp_path / "cache" / "t").clips()
    assert sorted(clips) == ["clip0", "clip1", "none"]
    assert present(tmp_path / "cache" / "t", "clip1") == {"visual": 10, "audio": 0}
    assert [clips[name].provenance.get("sha256") for name in sorted(clips)] == ["video", "video", None]
