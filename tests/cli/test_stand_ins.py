"""Clips without any real sound or pictures are counted by their masks, and named by the commands."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import cache_toy
import numpy as np
import pytest

from avpipe.cli.stand_ins import stand_in_line
from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import progress_of

CLIPS = cache_toy.clips(11)  # numbers 0, 5 and 10 have one segment, whose sound the toy has as absent
BARE, SILENT = CLIPS[5][0], (CLIPS[0][0], CLIPS[10][0])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Eleven clips: two without real sound, one without anything real."""
    masks = cache_toy.masks

    def some(clip):
        return {m: np.zeros_like(mask) for m, mask in masks(clip).items()} if clip.id == BARE else masks(clip)

    monkeypatch.setattr(cache_toy, "masks", some)
    cache_toy.extract(tmp_path / "c", CLIPS, cache_toy.VISUAL)
    cache_toy.extract(tmp_path / "c", CLIPS)  # sound in records of its own
    return tmp_path / "c"


def test_they_are_counted_by_modality(cache):
    found = {"clips": 3, "nothing_real": 1, "audio": 3, "visual": 1}
    assert progress_of(cache)["stand_ins"] == open_cache(cache).summary()["stand_ins"] == found
    assert open_cache(cache).stand_ins([SILENT[0], CLIPS[1][0]]) == {"clips": 1, "nothing_real": 0, "audio": 1}
    assert open_cache(cache).stand_ins([CLIPS[1][0]]) == {"clips": 0, "nothing_real": 0}


def test_one_line_names_them(cache, avpipe_here):
    line = "3 clips with stand-ins throughout, marked as absent: 3 without any real sound, 1 without any real pictures"
    for command in (("status",), ("cache", "show")):
        text = avpipe_here(*command, "--cache", cache).stdout
        assert f" {line}, 1 with nothing real at all\n" in text
    assert stand_in_line({"clips": 0, "nothing_real": 0}) == ""
    one = "1 clip with stand-ins throughout, marked as absent: 1 without any real sound"
    assert stand_in_line({"clips": 1, "nothing_real": 0, "audio": 1}) == one


def _keep_sound_alone(path: Path) -> None:
    with av.open(io.BytesIO(path.read_bytes())) as film, av.open(str(path), "w") as kept:
        stream = kept.add_stream_from_template(film.streams.audio[0])
        for packet in film.demux(film.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                kept.mux(packet)


def test_an_extraction_says_how_many_it_made_of_nothing(own_ave, tmp_path, avpipe_here):
    """Files that are sound alone, with grey frames; and one that is nothing at all, which is counted as quarantined."""
    for clip in own_ave.ids[:2]:
        _keep_sound_alone(own_ave.video(clip))
    own_ave.video(own_ave.ids[2]).write_bytes(b"")
    stub = ("--visual", "stub", "--audio", "stub", "--weights", "random:0", "--layers", "blocks.1", "--decoders", "1")
    run = ("extract", "--dataset", "ave", "--root", own_ave.root, "--cache", tmp_path / "c", *stub)
    text = avpipe_here(*run, "--missing-video", "blank", check=3).stdout
    assert "  2 clips with stand-ins throughout, marked as absent: 2 without any real pictures\n" in text
    again = json.loads(avpipe_here(*run, "--json", check=3).stdout)
    assert again["stand_ins"] == {"clips": 2, "nothing_real": 0, "visual": 2}
    shown = avpipe_here("cache", "show", "--cache", tmp_path / "c").stdout
    assert "policies short_clip mask, missing_video blank\n" in shown
    assert "policies short_clip mask, missing_audio reject\n" in shown
