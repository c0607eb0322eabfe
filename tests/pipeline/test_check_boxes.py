"""The end of an mp4: what is missing is a fault, what is too much a note."""

from __future__ import annotations

import av
import numpy as np
import pytest
from plant import cut

from avpipe.pipeline.datasets.check.look import VIDEO, look

PICTURES = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)


@pytest.fixture
def mp4(tmp_path):
    """A video whose index lies before its pictures."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32)
        for picture in PICTURES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    return path


@pytest.mark.parametrize("tail", [b"\r\n--boundary--\r\n", bytes(100), b"\0\0\0", b"\0\1\0\0free", b"\xff" * 20])
def test_what_follows_the_last_box_is_odd_and_no_fault(mp4, tail):
    before = look(VIDEO, mp4)
    assert not before.kind
    mp4.write_bytes(mp4.read_bytes() + tail)
    after = look(VIDEO, mp4)
    assert (after.kind, after.facts["tail"]) == ("", f"its last {len(tail)} bytes are no part of it")
    assert after.facts["seconds"] == before.facts["seconds"]


def test_a_box_that_is_said_to_be_longer_than_the_file_is_odd_where_all_samples_are_there(mp4):
    data = bytearray(mp4.read_bytes())
    at = data.index(b"mdat")
    data[at - 4 : at] = (int.from_bytes(data[at - 4 : at]) + 1000).to_bytes(4)
    mp4.write_bytes(data)
    assert look(VIDEO, mp4).facts["tail"] == "its box 'mdat' is said to be longer than the file"
    cut(0.99)(mp4)
    assert (look(VIDEO, mp4).kind, look(VIDEO, mp4).facts) == ("truncated", {})


def test_what_is_cut_off_is_missing(mp4):
    whole = mp4.read_bytes()
    for size in (len(whole) - 1, len(whole) * 9 // 10, whole.index(b"mdat") + 20, whole.index(b"mdat") + 4):
        mp4.write_bytes(whole[:size])
        assert look(VIDEO, mp4).kind == "truncated", size
