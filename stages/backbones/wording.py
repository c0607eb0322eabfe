"""A backbone in words: which model, which weights, which layers. One wording wherever a user reads of it; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMED = 6
"""Taps that are named one by one; of more, count, first and last are said."""


def described(fields: Mapping[str, Any], request: Mapping[str, Any], taps: Sequence[str]) -> dict[str, Any]:
    """What a modality's features come from.

    Args:
        fields: of the modality's spec in a cache, or of `ExtractJob.fields`; empty where they are not known.
        request: what was asked for, of the spec or of `ExtractJob.request`.
        taps: layers that are meant, in order of depth; a codec may stand behind them (`blocks.3@float32`).

    Returns:
        JSON-ready `model`, `weights`, `precision`, `window`, `front_end`, `taps`, `blocks` (of the model) and
        `imported`; None where there is no such thing, or where it is not known.
    """
    facts = fields.get("backbone", {})
    made = facts.get("preprocess", {})
    heard = facts.get("modality") == "audio"
    return {
        "model": request.get("model") or facts.get("model"),
        "weights": request.get("weights"),
        "precision": facts.get("precision"),
        "window": made.get("window", {}).get("kind") or request.get("window") if heard else None,
        "front_end": made.get("front_end", {}).get("kind") if heard else None,
        "taps": list(taps),
        "blocks": sum(stage["blocks"] for stage in facts.get("stages", ())) or None,
        "imported": bool(fields.get("imported")),
    }


def in_words(fields: Mapping[str, Any], request: Mapping[str, Any], taps: Sequence[str], *, adapted: int = 0) -> str:
    """The same in a line, such as `test_vit, weights demo, 2 of 6 blocks (blocks.4, blocks.5), float32`.

    Arguments as `described`; `adapted` is the number of blocks that have adapters and run at every step, said in place
    of the layers that are read from a cache.
    """
    found = described(fields, request, taps)
    if found["imported"]:
        return f"imported features, {_taps(found)}"
    parts = [
        found["model"] or "a backbone that is not known",
        f"weights {found['weights']}" if found["weights"] else "",
        f"adapters in {adapted} of {found['blocks'] or adapted} blocks" if adapted else _taps(found),
        found["precision"] or "",
        f"window {found['window']}" if found["window"] else "",
        f"front end {found['front_end']}" if found["front_end"] else "",
    ]
    return ", ".join(part for part in parts if part)


def _taps(found: Mapping[str, Any]) -> str:
    """How many layers of how many, and which."""
    taps, blocks = found["taps"], found["blocks"]
    layers = len({tap.partition("@")[0] for tap in taps})
    count = f"{layers} of {blocks} blocks" if blocks else f"{len(taps)} tap{'' if len(taps) == 1 else 's'}"
    if not taps:
        return count
    return f"{count} ({', '.join(taps) if len(taps) <= NAMED else f'{taps[0]} to {taps[-1]}'})"
