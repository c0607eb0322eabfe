"""The report as one HTML document that asks nothing of the network.

What the page needs lies in it: style and script (the files of `assets/`), the data as JSON blocks that no browser
executes, and media as base64 inside them. A content security policy that names style and script by their hashes
forbids everything else, so that even a mistake in the script, or hostile names in the data, cannot send anything out.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

FORMAT = 1
"""The layout of `data` that the script understands."""

SCRIPTS = (
    "dom.js",
    "format.js",
    "headline.js",
    "scores.js",
    "curves.js",
    "confusion.js",
    "layers.js",
    "costs.js",
    "setup.js",
    "strips.js",
    "lanes.js",
    "media.js",
    "attention.js",
    "masks.js",
    "class_maps.js",
    "stage.js",
    "tracks.js",
    "transport.js",
    "detail.js",
    "list.js",
    "clips.js",
    "main.js",
)
STYLES = (
    "base.css",
    "frame.css",
    "controls.css",
    "headline.css",
    "sections.css",
    "scores.css",
    "figures.css",
    "narrow.css",
    "clips.css",
    "strips.css",
    "lanes.css",
    "detail.css",
    "player.css",
    "overlays.css",
    "print.css",
)

_PLACE = re.compile(r"\{\{([a-z]+)\}\}")


def render(data: Mapping[str, Any], details: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[str]:
    """Yields the pieces of the document, in order; joined they are the file.

    The details come last and one at a time, so they never lie in memory together, and a browser shows the page
    before it has read them.

    Args:
        data: the report without its details; JSON-ready, floats finite or null. All text in it is taken as text.
        details: media, attention and masks of some clips: (place in `data["clips"]`, detail).

    Raises:
        ValueError: a float that JSON does not know, or a detail of a clip that is not in `data`.
    """
    if data["format"] != FORMAT:
        raise ValueError(f"the page reads data of format {FORMAT}, not {data['format']!r}")
    style, script = _joined(STYLES), "(() => {\n'use strict';\n" + _joined(SCRIPTS) + "})();\n"
    pieces = {
        "policy": _policy(style, script),
        "title": html.escape(str(data["title"])),
        "style": style,
        "script": script,
        "data": _block("data", data),
    }
    place = 0
    template = _asset("page.html")
    for found in _PLACE.finditer(template):
        yield template[place : found.start()]
        if found[1] == "details":
            yield from _detail_blocks(details, len(data["clips"]))
        else:
            yield pieces[found[1]]
        place = found.end()
    yield template[place:]


def _detail_blocks(details: Iterable[tuple[int, Mapping[str, Any]]], clips: int) -> Iterator[str]:
    for index, detail in details:
        if not 0 <= index < clips:
            raise ValueError(f"a detail of clip {index}, but the report has {clips} clips")
        yield _block(f"detail-{index}", detail)


def _block(name: str, value: Mapping[str, Any]) -> str:
    """A JSON block; without "<" no text in it can end it or open a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{_hash(script)}'",
            f"style-src 'sha256-{_hash(style)}'",
            "img-src data: blob:",
            "media-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _joined(names: Iterable[str]) -> str:
    return "".join(_asset(name) for name in names)


def _asset(name: str) -> str:
    return (resources.files("avpipe.stages.report") / "assets" / name).read_text(encoding="utf-8")
