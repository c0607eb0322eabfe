"""JSON files that hold one list, with the line on which each of its items starts."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.text import what_it_is_instead
from avpipe.pipeline.errors import UnusableAnnotations

_HEAD_BYTES = 4096
_BLANK = re.compile(r"[ \t\r\n]*")


def read_list(path: Path) -> list[tuple[int, Any]]:
    """Reads a JSON list.

    Args:
        path: a `.json` file, or a `.json.gz`.

    Returns:
        The line (from 1) on which each item starts, and the item.

    Raises:
        UnusableAnnotations: the file is missing, damaged, no JSON, or no list.
    """
    text = _text(path)
    try:
        return _items(text)
    except json.JSONDecodeError as error:
        what = f"is broken JSON at line {error.lineno} column {error.colno} ({error.msg.lower()})"
    except RecursionError:
        what = "is nested too deep"
    raise UnusableAnnotations(path, f"{what}: fetch the file again")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" and not what_it_is_instead(content[:_HEAD_BYTES].decode(errors="replace")):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UnusableAnnotations(path, "is missing: the dataset's archive has it") from error
    except UnicodeDecodeError as error:
        raise UnusableAnnotations(path, f"is no UTF-8 text (byte {error.start}): fetch it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableAnnotations(path, f"cannot be read ({error}): fetch the file again") from error
    if other := what_it_is_instead(text):
        raise UnusableAnnotations(path, other)
    return text


def _items(text: str) -> list[tuple[int, Any]]:
    """Items one by one, so that the line of each is known."""
    decoder = json.JSONDecoder()
    items: list[tuple[int, Any]] = []
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise json.JSONDecodeError("Expecting a list", text, at)
    at = _skip(text, at + 1)
    line, counted = 1, 0
    while text[at : at + 1] != "]":
        if items:
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
            at = _skip(text, at + 1)
        line, counted = line + text.count("\n", counted, at), at
        item, at = decoder.raw_decode(text, at)
        items.append((line, item))
        at = _skip(text, at)
    end = _skip(text, at + 1)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return items


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
