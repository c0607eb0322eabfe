"""Versions of the decoders that are installed, without importing any: a broken one may take its process with it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTIONS = {
    "decord": "decord",
    "pyav": "av",
    "torchcodec": "torchcodec",
    "soundfile": "soundfile",
    "pillow": "pillow",
    "numpy": "numpy",
}
"""Decoders by the name that provenance gives them, and the packages that they come in."""


def decoder_versions() -> dict[str, str]:
    """Versions by decoder, of those that are installed.

    Decoder processes run the same interpreter on the same path as the process that starts them, so they have the same:
    this is known even of a clip on which no decoder has ever given an answer.
    """
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    found = {}
    for name, distribution in DISTRIBUTIONS.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found
