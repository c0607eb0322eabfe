"""What a decoder process and its parent say to each other over a socket.

The parent's orders are pickles. Answers are not: a decoder that was led astray by a file could say anything. An answer
is a line of JSON, whose size is limited, and then the bytes of arrays whose types and shapes the parent knows
beforehand; they are read straight into place. (Pickled through a pipe, 26 MB of frames cost 74 ms of processor time,
both sides together, and 13 ms like this.)
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.media.deadline import Deadline

_ORDER = struct.Struct("!Q")
_ANSWER = struct.Struct("!4sI")
_MAGIC = b"avpA"
_MOST_HEADER_BYTES = 16 << 20


class Late(Exception):
    """It is not here in time."""


class Closed(Exception):
    """The other side has closed the socket, or ended."""


class Garbled(Exception):
    """What came is no answer; the message says why."""


def send_order(channel: socket.socket, order: object, seconds: float) -> None:
    """Sends one order to a child.

    Raises:
        Closed, Late: the child has ended, or does not take it within `seconds`.
    """
    data = pickle.dumps(order)
    channel.settimeout(seconds)
    try:
        channel.sendall(_ORDER.pack(len(data)) + data)
    except TimeoutError:
        raise Late from None
    except OSError:
        raise Closed from None


def receive_order(channel: socket.socket) -> Any:
    """The next order, in the child; waits for it.

    Raises:
        Closed: the parent has closed the socket.
    """
    (size,) = _ORDER.unpack(_receive(channel, _ORDER.size, None))
    return pickle.loads(_receive(channel, size, None))


def send_answer(channel: socket.socket, header: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
    """Sends an answer to the parent: a header of JSON values, and the bytes of arrays that the header describes."""
    text = json.dumps(header).encode()
    channel.sendall(_ANSWER.pack(_MAGIC, len(text)) + text)
    for array in arrays:
        if array.size:
            channel.sendall(np.ascontiguousarray(array).data.cast("B"))


def receive_header(channel: socket.socket, deadline: Deadline) -> dict[str, Any]:
    """The header of the next answer, which must be here as a whole before the deadline.

    Raises:
        Late, Closed, Garbled: there is no answer.
    """
    magic, size = _ANSWER.unpack(_receive(channel, _ANSWER.size, deadline))
    if magic != _MAGIC or size > _MOST_HEADER_BYTES:
        raise Garbled("other bytes than an answer")
    try:
        header = json.loads(_receive(channel, size, deadline))
    except (ValueError, RecursionError) as error:
        raise Garbled("an answer that cannot be read") from error
    if not isinstance(header, dict):
        raise Garbled("an answer that cannot be read")
    return header


def receive_array(channel: socket.socket, dtype: str, shape: Sequence[int], deadline: Deadline) -> npt.NDArray[Any]:
    """The array that comes next.

    Raises:
        Late, Closed: it does not come.
    """
    array: npt.NDArray[Any] = np.empty(tuple(shape), dtype)
    if array.size:
        _fill(channel, array.data.cast("B"), deadline)
    return array


def _receive(channel: socket.socket, size: int, deadline: Deadline | None) -> bytearray:
    data = bytearray(size)
    _fill(channel, memoryview(data), deadline)
    return data


def _fill(channel: socket.socket, view: memoryview, deadline: Deadline | None) -> None:
    done = 0
    while done < len(view):
        left = None if deadline is None else deadline.left()
        if left is not None and left <= 0:
            raise Late
        try:
            channel.settimeout(left)
            count = channel.recv_into(view[done:])
        except TimeoutError:
            continue  # the deadline may have been put off
        except OSError:
            raise Closed from None
        if not count:
            raise Closed
        done += count
