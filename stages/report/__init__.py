"""One self-contained HTML page about a run: scores beside controls, curves, confusion, layers, clips, costs.

    summary = make_report(Path("runs/..."))

`sources.py` opens what is there, `document.py` puts it together, `details.py` adds single clips one at a time, and
`page.py` turns all of it into HTML. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.pipeline.manifest import SPLITS

DEFAULT_CLIPS = 24
_OURS = re.compile(rb"<!doctype html>.* - avpipe report</title>", re.DOTALL)
_BEGINNING = 4096
"""What every report has in its first bytes: only such a file is replaced."""


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
    layers: bool = True,
) -> ReportSummary:
    """Writes the report of a run, atomically; a split of which the best checkpoint was not scored is scored first.

    Scores that are there stay as they are: where the dataset has other samples than were scored, the report shows the
    scores and no clip.

    Args:
        run: the run folder.
        split: `test`, `val` or `train`.
        out: the file, `*.html` or `*.htm`, which may be an earlier report but nothing else; default: `report.html` in
            the run folder, `report-<split>.html` for another split than test.
        clips: how many clips are shown with media: half of them the hardest, the rest spread over the others.
        beside: other runs in the table of scores; None: the runs in the same folder with the same features.
        cache: where the features are now; default: where they were at training. Without, the report does without.
        root: where the dataset is now; default: where it was at training, or where it is usually found if the samples
            there are those that were scored. Without, the report does without.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        layers: whether the importance of layers is measured, which predicts the split again and again.

    Raises:
        UsageError: no run, no finished epoch, unknown split, an `out` that is no name of a page or is another file, a
            run that cannot be shown beside this one; not scored and no dataset to score on; predictions that cannot be
            read.
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
    from avpipe.stages.report.scores import check_named
    from avpipe.stages.report.sources import open_sources
    from avpipe.stages.runs import RunConfig

    begun = time.perf_counter()
    RunConfig.load(run)  # before anything is said about the file
    path = out or run / ("report.html" if split == "test" else f"report-{split}.html")
    _refuse_target(path)
    check_named(run, split, beside or ())
    sources = open_sources(run, split, cache, root, device)
    document = build(sources, clips=clips, beside=beside, device=device, layers=layers)
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


def _refuse_target(path: Path) -> None:
    """Says at once what would else be found out after minutes of work, and keeps every file but an earlier report."""
    if path.is_dir() and path != Path():
        raise UsageError(f"--out {path} is a folder: name a file, such as {path / 'report.html'}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out '{'' if path == Path() else path}': the name of a page ends in .html; name a file so")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: folder {path.parent} does not exist; make it, or name a file in another")
    if not os.access(path.parent, os.W_OK):
        raise EnvironmentLacking(
            f"the report cannot be written to {path}: folder {path.parent} cannot be written to; name another file"
        )
    if path.exists() and not _is_report(path):
        raise UsageError(f"{path} exists and is no report of avpipe, so it is kept: name another file with --out")


def _is_report(path: Path) -> bool:
    """Whether a file is one that `make_report` wrote."""
    if not path.is_file():  # a device would be read, or replaced
        return False
    try:
        with path.open("rb") as file:
            return _OURS.match(file.read(_BEGINNING)) is not None
    except OSError:
        return False
