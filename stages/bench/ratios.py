"""How rows of one pair compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avpipe.stages.bench.pairs import COMPARED

TIMES = ("step", "step_cpu", "forward", "epoch")
"""Kinds of seconds that a row has."""


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row of one pair beside those of the same batch that `COMPARED` names.

    Returns:
        `row` and `to`, with `step_times` and so on: how many times faster `row` is than `to`; `memory_share` and
        `memory_anon_share`: its memory above base as a share of that of `to`.
    """
    found = []
    for row in rows:
        for other in rows:
            if other["name"] in COMPARED.get(row["name"], ()) and other["batch"] == row["batch"]:
                found.append(_ratio(row, other))
    return found


def _ratio(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    about = {"pair": row["pair"], "batch": row["batch"], "residency": row["residency"], "device": row["device"]}
    times = {f"{kind}_times": round(other[f"{kind}_s"] / row[f"{kind}_s"], 2) for kind in TIMES}
    shares = {f"memory{kind}_share": _share(row, other, kind) for kind in ("", "_anon")}
    return {**about, "row": row["name"], "to": other["name"], **times, **shares}


def _share(row: dict[str, Any], other: dict[str, Any], kind: str) -> float | None:
    """Memory above base as a share; None where the other needs none."""
    mine, theirs = (each[f"peak{kind}_mib"] - each[f"base{kind}_mib"] for each in (row, other))
    return round(mine / theirs, 3) if theirs > 0 else None
