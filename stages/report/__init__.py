"""One self-contained HTML page about a run: scores beside controls, curves, confusion, layers, clips, costs.

    summary = make_report(Path("runs/..."))

`sources.py` opens what is there, `document.py` puts it together, `details.py` adds single clips one at a time, and
`page.py` turns all of it into HTML. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.pipeline.manifest import SPLITS

DEFAULT_CLIPS = 24


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What was written.

    Attributes:
        path: the page.
        bytes: its size.
        clips: clips that it lists.
        details: those that it shows more of than their score.
        videos: those of them that play their source video; the others show what the cache has stored.
        seconds: time that it took, a first scoring included.
        notes: what could not be shown, and other caveats.
    """

    path: Path
    bytes: int
    clips: int
    details: int
    videos: int
    seconds: float
    notes: tuple[str, ...]


def make_report(
    run: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    clips: int = DEFAULT_CLIPS,
    beside: Sequence[Path] | None = None,
    cache: Path | None = None,
    root: Path | None = None,
    device: str = "auto",
) -> ReportSummary:
    """Writes the report of a run, atomically; a split that was not scored since the last training is scored first.

    Args:
        run: the run folder.
        split: `test`, `val` or `train`.
        out: the file; default: `report.html` in the run folder, `report-<split>.html` for another split than test.
        clips: how many clips are shown with media: half of them the hardest, the rest spread over the others.
        beside: other runs in the table of scores; None: the runs in the same folder with the same features.
        cache: where the features are now; default: where they were at training. Without, the report does without.
        root: where the dataset is now; default: where it was at training. Without, the report does without.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: no run, no finished epoch, unknown split, a run that cannot be shown beside this one.
        CacheMismatch: the cache holds other features than the run was trained on.
        EnvironmentLacking: the page cannot be written there.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if clips < 0:
        raise UsageError(f"--clips {clips}: give a number of clips, 0 or more")
    from avpipe.stages.checkpoint import write_atomic
    from avpipe.stages.report.details import details
    from avpipe.stages.report.document import build, finite
    from avpipe.stages.report.page import render
    from avpipe.stages.report.sources import open_sources
    from avpipe.stages.runs import RunConfig

    begun = time.perf_counter()
    RunConfig.load(run)  # before anything is said about the file
    path = out or run / ("report.html" if split == "test" else f"report-{split}.html")
    _refuse_unwritable(path)
    sources = open_sources(run, split, cache, root, device)
    document = build(sources, clips=clips, beside=beside, device=device)
    shown = ((place, finite(one)) for place, one in details(sources, document.viewer, document.planned))
    write_atomic(path, (piece.encode("utf-8", "replace") for piece in render(document.data, shown)))
    return ReportSummary(
        path=path,
        bytes=path.stat().st_size,
        clips=len(document.data["clips"]),
        details=len(document.planned),
        videos=sum(one.video is not None for one in document.planned),
        seconds=round(time.perf_counter() - begun, 3),
        notes=tuple(document.data["notes"]),
    )


def _refuse_unwritable(path: Path) -> None:
    """Says at once what would else be found out after minutes of work."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder: name a file, such as {path / 'report.html'}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        what = "cannot be written to" if path.parent.is_dir() else "does not exist"
        raise EnvironmentLacking(
            f"the report cannot be written to {path}: folder {path.parent} {what}; name another file"
        )
