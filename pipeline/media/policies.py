"""What is stored where a clip's media are not what its annotations promise: choices by name."""

from __future__ import annotations

from dataclasses import dataclass, fields

from avpipe.pipeline.errors import unknown_name

CHOICES = {
    "short_clip": ("mask", "repeat", "reject"),
    "missing_audio": ("reject", "silence"),
    "missing_video": ("reject", "blank"),
}
"""Policies and what they may be; the first is the default."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Names of what is done; part of the fingerprint.

    Attributes:
        short_clip: media that end before the clip does. `mask`: the nearest frame and silence stand in, and the mask
            says so; `repeat`: the last frame and the last segment of sound stand in and count as present; `reject`.
        missing_audio: no sound at all. `reject`, or `silence` with a mask that is False everywhere.
        missing_video: no pictures at all. `reject`, or `blank` frames with a mask that is False everywhere.

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
