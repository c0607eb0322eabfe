"""Swin-V2-L and HTS-AT by command, with random weights: one clip, both windows of sound."""

import json

import pytest

from avpipe.pipeline import open_cache

PAIR = ("--visual", "swinv2_large_window12_192", "--audio", "htsat", "--weights", "random:0", "--layers", "stages")


@pytest.mark.slow
@pytest.mark.parametrize(("window", "audio"), [("segment", (4096, 1024, 256, 64)), ("clip", (416, 104, 24, 6))])
def test_one_clip_goes_through_the_papers_pair(own_ave, avpipe, tmp_path, window, audio):
    (tmp_path / "clips.csv").write_text(f"clip,media,split,events\n-a,{own_ave.video(own_ave.ids[0])},train,Bark@3-8\n")
    command = ("extract", "--dataset", "clips.csv", *PAIR, "--audio-window", window, "--unit-segments", 10)
    summary = json.loads(avpipe(*command, "--json", timeout=280).stdout)
    assert (summary["clips"], summary["extracted"], summary["quarantined"]) == (1, 1, [])
    avpipe("cache", "verify", "--cache", "cache/clips")
    shapes = {name: array.row_shape for name, array in open_cache(tmp_path / "cache" / "clips").arrays.items()}
    blocks = ("layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.5", "layers.3.blocks.1")
    assert [shapes[f"audio/{tap}"] for tap in blocks] == list(zip(audio, (96, 192, 384, 768), strict=True))
    ends = ("layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.17", "layers.3.blocks.1")
    assert [shapes[f"visual/{tap}"] for tap in ends] == [(2304, 192), (576, 384), (144, 768), (36, 1536)]
    assert shapes["audio/samples"] == (32_000,)
    assert json.loads(avpipe(*command, "--json").stdout)["extracted"] == 0
