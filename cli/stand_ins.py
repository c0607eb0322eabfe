"""One line about clips that hold nothing but stand-ins for their sound, their pictures, or both."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = {"audio": "sound", "visual": "pictures"}


def stand_in_line(found: Mapping[str, int]) -> str:
    """What to print of `pipeline.cache.summary.stand_ins`; "" where there is no such clip."""
    if not found["clips"]:
        return ""
    lacking = [f"{found[name]} without any real {word}" for name, word in _NAMES.items() if found.get(name)]
    none = f", {found['nothing_real']} with nothing real at all" if found["nothing_real"] else ""
    clips = f"{found['clips']} clip" + ("" if found["clips"] == 1 else "s")
    return f"{clips} with stand-ins throughout, marked as absent: {', '.join(lacking)}{none}"
