"""What a parent believes of a decoder process: every answer is held against what was asked for."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import stub_decoders

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import deadline, wire
from avpipe.pipeline.media.answers import content_header, error_header, read_answer
from avpipe.pipeline.media.deadline import Deadline
from avpipe.pipeline.media.decode import MediaSpec
from avpipe.pipeline.timeline import Timeline

SPEC = MediaSpec(Timeline(), (4, 6), audio=True)
CLIP = Clip("clip", 3)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _answered(ends, spec=SPEC, wanted=SPEC, serial=7, **parts):
    """What is read of a stub's answer, of which some parts are others."""
    ours, theirs = ends
    header, arrays = content_header(stub_decoders.grey(CLIP, spec, **parts))
    wire.send_answer(theirs, {**header, "serial": 7, "memory_bytes": 5}, arrays)
    return read_answer(ours, CLIP, wanted, serial, Deadline(5))


def test_content_comes_as_it_was(ends):
    rng = np.random.default_rng(0)
    parts = {
        "frames": rng.integers(0, 256, (3, 4, 6, 3), np.uint8)[:, :, ::-1],  # not in one piece
        "samples": rng.integers(-9, 9, (3, 16_000), np.int16),
        "masks": {"visual": np.array([True, True, False]), "audio": np.array([False, True, True])},
        "provenance": {"frames": "decord 0.6.0", "audio_note": "no \udcff, no é"},
        "seconds": 1.25,
    }
    answer = _answered(ends, **parts)
    found = answer.outcome
    for name in ("frames", "samples"):
        assert np.array_equal(getattr(found, name), parts[name])
        assert getattr(found, name).dtype == parts[name].dtype
    assert all(np.array_equal(found.masks[name], mask) and mask.dtype == bool for name, mask in parts["masks"].items())
    assert (found.provenance, found.seconds) == (parts["provenance"], 1.25)
    assert (answer.memory_bytes, answer.out_of_memory) == (5, False)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"frames": np.zeros((2, 4, 6, 3), np.uint8)}, r"frames: uint8 [2, 4, 6, 3], not uint8 [3, 4, 6, 3]"),
        ({"frames": np.full((3, 4, 6, 3), np.nan)}, "frames: float64"),
        ({"frames": None}, "frames: none, not uint8 [3, 4, 6, 3]"),
        ({"frames": [1, 2, 3]}, "frames: list [3]"),
        ({"frames": np.full((3, 4, 6, 3), None)}, "frames: object"),
        ({"samples": np.zeros((3, 15_999), np.int16)}, "samples: int16 [3, 15999], not int16 [3, 16000]"),
        ({"samples": np.zeros((3, 16_000), np.float32)}, "samples: float32"),
        ({"masks": {"visual": np.ones(3, bool)}}, "masks of ['visual']"),
        ({"masks": {}}, "masks of nothing"),
        ({"masks": {"visual": np.ones(2, bool), "audio": np.ones(3, bool)}}, "a mask of visual"),
        ({"masks": {"visual": np.ones(3, bool), "audio": np.ones(3)}}, "a mask of audio"),
    ],
)
def test_other_content_is_named(ends, parts, reason):
    with pytest.raises(wire.Garbled) as error:
        _answered(ends, **parts)
    assert reason in str(error.value)


def test_media_that_nobody_asked_for(ends):
    only_sound = replace(SPEC, frame_size=None)
    with pytest.raises(wire.Garbled, match=r"frames: uint8 .*, not none"):
        _answered(ends, wanted=only_sound)


def test_answers_without_media(ends):
    nothing = {"frames": None, "samples": None, "masks": {}, "provenance": {"seconds": "3.5"}}
    assert _answered(ends, wanted=None, **nothing).outcome.provenance == {"seconds": "3.5"}
    with pytest.raises(wire.Garbled):
        _answered(ends, wanted=None)


def test_the_answer_to_another_clip(ends):
    with pytest.raises(wire.Garbled, match="another clip"):
        _answered(ends, serial=8)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputRejected("bad\udcff", stage="probe", hint="mend it"), InputRejected),
        (EnvironmentLacking("no decoder"), EnvironmentLacking),
    ],
)
def test_errors_come_as_they_were(ends, error, kind):
    ours, theirs = ends
    wire.send_answer(theirs, {**error_header(error), "serial": 7})
    outcome = read_answer(ours, CLIP, SPEC, 7, Deadline(5)).outcome
    assert type(outcome) is kind
    assert str(outcome) == str(error)
    assert getattr(outcome, "stage", None) == getattr(error, "stage", None)


def test_what_is_told_of_an_answer_with_media_is_checked(ends):
    assert _answered(ends, seconds=2).outcome.seconds == 2.0
    with pytest.raises(wire.Garbled, match="nan seconds of decoding"):
        _answered(ends, seconds=float("nan"))


def _head(text: bytes, size: int | None = None) -> bytes:
    return b"avpA" + struct.pack("!I", len(text) if size is None else size) + text


CONTENT = {"serial": 7, "content": {"masks": {}, "provenance": {}, "seconds": 0}, "arrays": {}}


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x95 a pickle, say",
        _head(b"", 2**32 - 1),
        _head(b"{"),
        _head(b"\xff\xfe"),
        _head(b"[1]"),
        _head(b"[" * 100_000),
        _head(b"{}"),
        _head(b'{"serial": 7}'),
        _head(b'{"serial": 7, "rejected": "no"}'),
        _head(b'{"serial": 7, "error": ["UsageError", "a run ends with it"]}'),
        *(
            _head(b'{"serial": 7, "memory_bytes": %s, "lacking": ""}' % memory)
            for memory in (b'"much"', b"Infinity", b"NaN", b"-1", b"1.5", b"null")
        ),
        _head(json.dumps({**CONTENT, "arrays": {"frames": ["uint8", [float("inf")]]}}).encode()),
        *(
            _head(json.dumps({**CONTENT, "content": {**CONTENT["content"], **part}}).encode())
            for part in (
                {"provenance": 5},
                {"provenance": {"frames": 5}},
                {"seconds": "x"},
                {"seconds": float("nan")},
                {"seconds": float("inf")},
                {"seconds": -1},
                {"seconds": True},
            )
        ),
        _head(json.dumps({**CONTENT, "arrays": [1]}).encode()),
        _head(json.dumps({**CONTENT, "arrays": {"frames": "big"}}).encode()),
        _head(json.dumps({**CONTENT, "arrays": {"frames": ["uint8", 3]}}).encode()),
        _head(json.dumps({**CONTENT, "content": {**CONTENT["content"], "masks": 3}}).encode()),
        _head(json.dumps({**CONTENT, "content": {**CONTENT["content"], "more": 3}}).encode()),
    ],
)
@pytest.mark.parametrize("wanted", [SPEC, None])
def test_what_is_no_answer(ends, data, wanted):
    ours, theirs = ends
    theirs.sendall(data)
    with pytest.raises(wire.Garbled):
        read_answer(ours, CLIP, wanted, 7, Deadline(5))


def test_what_does_not_come_in_time(ends):
    ours, theirs = ends
    theirs.sendall(_head(b'{"serial"', 100))
    with pytest.raises(wire.Late):
        read_answer(ours, CLIP, SPEC, 7, Deadline(0.05))
    theirs.close()
    with pytest.raises(wire.Closed):
        read_answer(ours, CLIP, SPEC, 7, Deadline(5))


def test_an_order_that_nobody_takes(ends):
    ours, theirs = ends
    with pytest.raises(wire.Late):
        wire.send_order(ours, bytes(10_000_000), 0.05)
    theirs.close()
    with pytest.raises(wire.Closed):
        wire.send_order(ours, bytes(10), 5)


def test_waiting_for_a_processor_does_not_count(monkeypatch):
    waited, now = iter(({"1": 7.0}, {"1": 9.0, "2": 0.5}, {"1": 90.0})), iter((100.0, 104.0, 110.5, 111.5))
    monkeypatch.setattr(deadline, "_waited_seconds", lambda pid: next(waited))
    monkeypatch.setattr(deadline.time, "monotonic", lambda: next(now))
    running = Deadline(10.0, pid=1)
    assert running.left() == 6.0
    assert running.left() == 1.5  # 2 s of waiting
    assert running.left() == 38.5  # 83 s of it, of which four times the deadline counts


def test_a_process_that_sleeps_waits_for_nothing():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as sleeper:
        try:
            time.sleep(0.5)
            running = Deadline(0.2, sleeper.pid)
            time.sleep(0.4)
            assert running.left() < 0
        finally:
            sleeper.kill()
