"""An answer of a decoder process: a clip's content, or what is wrong with it, as it goes over the wire.

The parent knows what it asked for. What it gets is held against that, type by type and shape by shape, before a byte of
it is read: a decoder that returns short output is named, and its output is never cached.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import wire
from avpipe.pipeline.media.deadline import Deadline
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec

_ARRAYS = ("frames", "samples")

Expected = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of every array that must come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a clip.

    Attributes:
        outcome: its content, or the error that the decoder raised. No other error comes from a child, so that none
            can end the run for the sake of one clip, but for a machine that lacks the decoder.
        memory_bytes: data memory of the child without what it answered, 0 where the system does not tell.
        out_of_memory: the clip failed for lack of memory.
    """

    outcome: DecodedClip | InputRejected | EnvironmentLacking
    memory_bytes: int
    out_of_memory: bool


def expected_arrays(clip: Clip, spec: MediaSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What a decoder must return of a clip."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    if spec.frame_size is not None:
        found["frames"] = ("uint8", (clip.segments, *spec.frame_size, 3))
    if spec.audio:
        found["samples"] = ("int16", (clip.segments, spec.timeline.samples_per_segment))
    return found


def content_header(decoded: DecodedClip) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A decoded clip as a header and the arrays that follow it. What is no array of numbers is described, not sent."""
    arrays = {name: getattr(decoded, name) for name in _ARRAYS if getattr(decoded, name) is not None}
    header: dict[str, Any] = {f.name: getattr(decoded, f.name) for f in fields(decoded) if f.name not in _ARRAYS}
    header["masks"] = {name: np.asarray(mask).tolist() for name, mask in decoded.masks.items()}
    header["provenance"] = {str(key): str(value) for key, value in decoded.provenance.items()}
    header["seconds"] = float(decoded.seconds)
    described = {name: [str(getattr(a, "dtype", type(a).__name__)), list(np.shape(a))] for name, a in arrays.items()}
    sent = [a for a in arrays.values() if isinstance(a, np.ndarray) and a.dtype.kind in "biuf"]
    return {"content": header, "arrays": described}, sent


def error_header(error: InputRejected | EnvironmentLacking) -> dict[str, Any]:
    """An error that a decoder raised on purpose."""
    if isinstance(error, InputRejected):
        return {"rejected": {"reason": error.reason, "stage": error.stage, "hint": error.hint}}
    return {"lacking": str(error)}


def memory_of(header: Mapping[str, Any]) -> int:
    """The data memory that a child tells, in bytes.

    Raises:
        wire.Garbled: it is no such number.
    """
    found = header.get("memory_bytes", 0)
    if type(found) is not int or found < 0:
        raise wire.Garbled(f"{found!r} bytes of memory")
    return found


def read_answer(channel: socket.socket, clip: Clip, spec: MediaSpec | None, serial: int, deadline: Deadline) -> Answer:
    """Takes in the answer to a clip.

    Args:
        channel: socket to the child.
        clip: the clip.
        spec: what was wanted; None where no media are.
        serial: number of the order.
        deadline: when it must be here as a whole.

    Raises:
        wire.Late, wire.Closed: it is not.
        wire.Garbled: it is no answer to this, or not what was asked for. What follows it must not be read.
    """
    header = wire.receive_header(channel, deadline)
    if header.get("serial") != serial:
        raise wire.Garbled("the answer to another clip")
    memory, out = memory_of(header), bool(header.get("out_of_memory"))
    try:
        if "rejected" in header:
            said = {part: str(header["rejected"][part]) for part in ("reason", "stage", "hint")}
            return Answer(InputRejected(said["reason"], stage=said["stage"], hint=said["hint"]), memory, out)
        if "lacking" in header:
            return Answer(EnvironmentLacking(str(header["lacking"])), memory, out)
        content = header["content"]
        expected = {} if spec is None else expected_arrays(clip, spec)
        _check(header["arrays"], content["masks"], expected, clip.segments)
        _check_told(content["provenance"], content["seconds"])
        parts: dict[str, Any] = {**content, **dict.fromkeys(_ARRAYS)}
        parts["masks"] = {name: np.asarray(mask, dtype=bool) for name, mask in content["masks"].items()}
        for name, kind in expected.items():
            parts[name] = wire.receive_array(channel, *kind, deadline)
        decoded = DecodedClip(**parts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise wire.Garbled(f"an answer that lacks something ({type(error).__name__}: {error})") from error
    return Answer(decoded, memory, out)


def _check_told(provenance: Any, seconds: Any) -> None:
    """Raises `Garbled` where an answer does not tell who decoded it and how long that took."""
    if not isinstance(provenance, dict) or not all(type(value) is str for value in provenance.values()):
        raise wire.Garbled("no provenance")
    if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
        raise wire.Garbled(f"{seconds!r} seconds of decoding")


def _check(arrays: Mapping[str, Any], masks: Mapping[str, Any], expected: Expected, segments: int) -> None:
    """Raises `Garbled` where an answer does not have the arrays and masks that were asked for."""
    for name in sorted(arrays.keys() | expected.keys()):
        found = _words(*arrays[name]) if name in arrays else "none"
        wanted = _words(*expected[name]) if name in expected else "none"
        if found != wanted:
            raise wire.Garbled(f"{name}: {found}, not {wanted}")
    modalities = {"frames": "visual", "samples": "audio"}
    if masks.keys() != {modalities[name] for name in expected}:
        raise wire.Garbled(f"masks of {sorted(masks) or 'nothing'} for {sorted(expected) or 'nothing'}")
    for name, mask in masks.items():
        if not isinstance(mask, list) or len(mask) != segments or any(type(one) is not bool for one in mask):
            raise wire.Garbled(f"a mask of {name} that is not {segments} truth values")


def _words(dtype: str, shape: Any) -> str:
    return f"{dtype} [{', '.join(str(int(size)) for size in shape)}]"
