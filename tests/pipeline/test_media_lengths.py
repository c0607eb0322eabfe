"""How long media files say they are: read in processes that can be killed."""

from __future__ import annotations

import av
import numpy as np
import pytest
from flash import Kind, make
from slow_media import measure_or_hang

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import lengths as module
from avpipe.pipeline.media.lengths import SILENT, lengths, measure_clip
from avpipe.stages.demo.encode import write_mp4, write_wav


def test_the_length_is_that_of_the_pictures_and_one_bad_file_costs_no_other(tmp_path):
    pictures = np.zeros((12, 16, 16, 3), np.uint8)
    write_mp4(tmp_path / "v.mp4", pictures, 5, np.zeros((1, 80_000), np.float32), 16_000)  # 2.4 s, with sound of 5 s
    write_wav(tmp_path / "w.wav", np.zeros((2, 12_000), np.float32), 8000)
    write_wav(tmp_path / "none.wav", np.zeros((1, 0), np.float32), 8000)
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and no more")
    clips = [Clip(name, 1, video=tmp_path / f"{name}.mp4") for name in ("v", "bad", "gone")]
    clips += [Clip(name, 1, audio=tmp_path / f"{name}.wav") for name in ("w", "none")]
    found = lengths(clips)
    assert found["v"] == pytest.approx(2.4, abs=0.05)
    assert found["w"] == 1.5
    stages = {name: found[name].stage for name in ("bad", "gone", "none")}
    assert stages == {"bad": "probe", "gone": "probe", "none": SILENT}
    assert lengths([]) == {}


def test_a_file_that_hangs_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(module, "measure_clip", measure_or_hang)
    write_wav(tmp_path / "w.wav", np.zeros((1, 8000), np.float32), 8000)
    found = lengths([Clip(name, 1, audio=tmp_path / "w.wav") for name in ("hangs", "w")])
    assert found["w"] == 1.0
    assert "no answer" in found["hangs"].reason


def seconds(path):
    return float(measure_clip(Clip("a", 1, video=path), None).provenance["seconds"])


def test_where_the_header_does_not_say_or_guesses_the_packets_are_asked(tmp_path):
    """A live recording has no length in its header; that of a program stream is FFmpeg's guess, here 1.2 s."""
    make(tmp_path / "live.mkv", Kind(), live="1")
    with av.open(str(tmp_path / "live.mkv")) as container:
        assert container.duration is None
    assert seconds(tmp_path / "live.mkv") == pytest.approx(2.0, abs=0.05)
    make(tmp_path / "a.mpg", Kind(video="mpeg2video", audio="mp2", options={"g": "12"}))
    assert seconds(tmp_path / "a.mpg") == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_clock_that_jumps_is_no_length(tmp_path, order):
    make(tmp_path / "a.ts", Kind())
    make(tmp_path / "b.ts", Kind(both_at=100.0))
    assert seconds(tmp_path / "b.ts") == pytest.approx(2.0, abs=0.05)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in order))
    with pytest.raises(InputRejected, match="time stamps jump from"):
        seconds(path)


def test_a_clip_without_files_is_refused():
    with pytest.raises(InputRejected, match="neither"):
        measure_clip(Clip("a", 1), None)
