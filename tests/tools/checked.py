"""What `avpipe data check` finds in a folder, for tests."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.check import Lookout, Report, Request, check


def look_at(name: str, root: Path, *, quick: bool = False, **options: str) -> Report:
    """The report on one dataset, made in this process."""
    with Lookout(0, quick) as lookout:
        return check(Request(name, root, options=options), lookout)


def found(report: Report) -> set[tuple[str, str]]:
    """Kind and place of every finding, places below the dataset's folder."""
    return {(finding.kind, str(Path(finding.where).relative_to(report.root))) for finding in report.findings}
