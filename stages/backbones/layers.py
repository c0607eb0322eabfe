"""`--layers SPEC`: which blocks are tapped; `inject_at=SPEC` reads like it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from avpipe.pipeline.errors import UsageError, unknown_name

STAGES = 4
_NUMBERED = re.compile(r"(layers\.\d+\.)?blocks\.\d+")


def select_taps(
    spec: str, taps: Sequence[str], stage_ends: Sequence[str] = (), *, option: str = "layers"
) -> tuple[str, ...]:
    """Tap names chosen by a layer spec.

    Args:
        spec: `all`, `last:K`, `stages` (for a model without stages: the ends of four equal parts of its depth), or
            tap names joined by commas.
        taps: every tap of the model, in order of depth.
        stage_ends: the last tap of each stage, for `stages`; with fewer than two the model counts as one without.
        option: what the spec was given as, for messages.

    Returns:
        the chosen names, in order of depth.

    Raises:
        UsageError: a name is unknown (the nearest is offered), or `last:K` is no positive number.
    """
    if spec == "all":
        return tuple(taps)
    if spec == "stages":
        if len(stage_ends) > 1:
            return tuple(stage_ends)
        ends = sorted({max(0, round(len(taps) * (part + 1) / STAGES) - 1) for part in range(STAGES)})
        return tuple(taps[i] for i in ends)
    if spec.startswith("last:"):
        count = spec.removeprefix("last:")
        if not count.isdigit() or int(count) < 1:
            raise UsageError(f"{option} {spec!r}: last:K needs a positive number, such as last:4")
        if int(count) > len(taps):
            raise UsageError(f"{option} {spec!r}: the model has {len(taps)} blocks; `all` takes all of them")
        return tuple(taps[-int(count) :])
    wanted = {name.strip() for name in spec.split(",")}
    for name in sorted(wanted):
        if name not in taps:
            kind = "layer" if option == "layers" else f"block in {option}"
            held = f"the model has {len(taps)} blocks, {taps[0]} to {taps[-1]}"
            if _NUMBERED.fullmatch(name):  # the nearest by letters would be a guess
                raise UsageError(f"unknown {kind} {name!r}: {held}")
            error = unknown_name(kind, name, [*taps, "all", "stages", "last:4"])
            raise UsageError(f"{error} {held[0].upper()}{held[1:]}")
    return tuple(tap for tap in taps if tap in wanted)
