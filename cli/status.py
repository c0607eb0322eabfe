"""`avpipe status`: how far an extraction is. Reads the ledger only, so it can be asked from anywhere at any time."""

from __future__ import annotations

import time
from typing import Any

from avpipe.cli import render
from avpipe.cli.cache import CacheOption, DatasetOption, JsonOption, cache_meant
from avpipe.cli.rejections import command
from avpipe.cli.stand_ins import stand_in_line


def status(cache: CacheOption = None, dataset: DatasetOption = None, json: JsonOption = False) -> None:
    """Show what is done, left and quarantined, the rate and the time that is left."""
    from avpipe.pipeline.cache import progress_of

    state = progress_of(cache_meant(cache, dataset))
    if json:
        render.emit_json(state)
        return
    render.line(f"{state['path']}  ({state['dataset'].get('name', '')})")
    names = ["planned", "done", "left", "quarantined"]
    render.table(["", *names], [[kind, *(state[kind][name] for name in names)] for kind in ("clips", "segments")])
    if state["clips"]["quarantined"]:
        render.line(f"quarantine  {command('ls', state['path'])}")
    if text := stand_in_line(state["stand_ins"]):
        render.line(f"stand-ins   {text}")
    render.line(f"units       {state['units']['committed']} of {state['units']['planned']} committed")
    rate = state["segments_per_second"]
    render.line(f"rate        {'unknown yet' if rate is None else f'{rate:.1f} segments/s of recent work'}")
    render.line(f"left        {_duration(state)}")
    if state["updated"]:
        render.line(f"last commit {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(state['updated']))}")
    for stage, seconds in sorted(state["work_seconds"].items(), key=lambda item: -item[1]):
        render.line(f"{stage:<11} {seconds:.1f} s of work")


def _duration(state: dict[str, Any]) -> str:
    seconds = state["eta_seconds"]
    if seconds is None:
        return "unknown yet"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if state["segments"]["left"] else "nothing"
