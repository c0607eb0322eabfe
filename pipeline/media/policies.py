"""What is stored where a clip's media are not what its annotations promise: choices by name.

See docs/policies.md for what each stores and what the mask says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from avpipe.pipeline.errors import unknown_name

CHOICES = {
    "short_clip": ("mask", "repeat", "reject"),
    "missing_audio": ("reject", "silence"),
    "missing_video": ("reject", "blank"),
}
"""Policies and what they may be; the first is the default."""
_STORED = {
    "visual": {
        "short_clip": {"mask": "repeat-nearest+mask", "repeat": "repeat-last", "reject": "reject"},
        "missing_video": {"reject": "reject", "blank": "grey+mask"},
    },
    "audio": {
        "short_clip": {"mask": "silence+mask", "repeat": "repeat-last", "reject": "reject"},
        "missing_audio": {"reject": "reject", "silence": "silence+mask"},
    },
}
"""What a fingerprint calls them, by modality: what is stored. Never change one: caches would not be known any more."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Names of what is done; part of the fingerprint.

    Attributes:
        short_clip: media that end before the clip does. `mask`: the nearest frame and silence stand in, and the mask
            says so; `repeat`: the last frame and the last segment of sound stand in and count as present; `reject`.
        missing_audio: no sound at all. `reject`, or `silence` with a mask that is False everywhere.
        missing_video: no pictures at all. `reject`, or `blank`: grey frames with a mask that is False everywhere.

    Raises:
        UsageError: a name that is not known.
    """

    short_clip: str = "mask"
    missing_audio: str = "reject"
    missing_video: str = "reject"

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) not in CHOICES[each.name]:
                option = each.name.replace("_", " ")
                raise unknown_name(f"policy for {option}", getattr(self, each.name), CHOICES[each.name])

    def fields(self, modality: str) -> dict[str, str]:
        """What enters the fingerprint of `visual` or `audio`: the policies that matter to it, by what they store."""
        return {name: stored[getattr(self, name)] for name, stored in _STORED[modality].items()}


def policies_of(modality: str, media: Mapping[str, Any]) -> dict[str, str]:
    """The policies behind a fingerprint, by name: the reverse of `Policies.fields`.

    Args:
        modality: `visual` or `audio`.
        media: the part `media` of its fields. What it does not name, or names in a way that is not known here, is
            left out.
    """
    known = {name: {stored: choice for choice, stored in names.items()} for name, names in _STORED[modality].items()}
    return {name: known[name][media[name]] for name in known if media.get(name) in known[name]}
