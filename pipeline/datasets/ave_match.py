"""AVE's Set files against Annotations.txt: the split of every row, and a finding for each that is in one file only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from avpipe.pipeline.datasets.ave_rows import AveFile, Placed, Row
from avpipe.pipeline.findings import Finding

_ALIKE = 3
"""Of category, video, start and end: how many two lines share where one may be a changed copy of the other."""
_ALIKE_OF_VIDEO = 2
"""The same, the video being one of them."""


def match(
    path: Path, annotations: AveFile, sets: Mapping[str, AveFile]
) -> tuple[list[tuple[str, Placed]], list[Finding], dict[str, int]]:
    """Matches the rows of the Set files to those of Annotations.txt, which give the numbers.

    Args:
        path: Annotations.txt.
        annotations: what it holds.
        sets: the Set file of each split.

    Returns:
        Split and row of Annotations.txt, in the order of the Set files; findings on rows that are left out; and their
        number, as in `Dataset.left_out`, each once: those of Set files, and those that are in none. A row whose
        counterpart in the other file is broken is left out with it, and only the broken one is in the findings.
    """
    free: dict[Row, list[Placed]] = defaultdict(list)
    for placed in reversed(annotations.rows):
        free[placed.row].append(placed)
    taken: dict[Row, Placed] = {}
    matched, lost, findings = [], [], []
    for split, file in sets.items():
        for placed in file.rows:
            row = placed.row
            if not free[row] and row not in taken:
                lost.append(placed)
                continue
            if free[row]:
                official = free[row].pop()
            if row in taken:
                what = f"the row of {taken[row].where} once more"
                findings.append(Finding("duplicate-row", placed.where, what, f"row left out: {row}"))
                continue
            taken[row] = placed
            matched.append((split, official))
    left = {placed.number: placed for rows in free.values() for placed in rows}
    findings += _lost(path, lost, left, list(annotations.broken))
    used = {official.row: official for _, official in matched}
    twice, nowhere = _left(path, list(left.values()), used, sets)
    findings += [*twice, *_nowhere(path, nowhere, sets)]
    splits = Counter(split for split, _ in matched)
    left_out = {f"samples of {split}": file.count - splits[split] for split, file in sets.items()}
    # A row of a Set file that nothing resembles may be one of those that are in none: no row is counted as both.
    beyond = annotations.count - len(twice) - sum(file.count for file in sets.values())
    return matched, findings, {**left_out, "samples": max(0, min(len(nowhere), beyond))}


def _lost(path: Path, lost: list[Placed], left: dict[int, Placed], broken: list[tuple[str, ...]]) -> list[Finding]:
    """Findings on rows of Set files that are not in Annotations.txt; what they differ from is taken out of `left`."""
    findings = []
    for placed in lost:
        row = placed.row
        other = _nearest(row, left)
        if other is not None:
            del left[other.number]
            what = f"differs from {other.where}, which has {other.row}"
        elif _absorbed(row, broken):
            continue
        else:
            what = f"no such row in {path.name}"
        findings.append(Finding("unmatched-row", placed.where, what, f"row left out: {row}"))
    return findings


def _nearest(row: Row, left: Mapping[int, Placed]) -> Placed | None:
    """The row that one of a Set file was before someone changed either of them: of the same video, or nearly equal."""
    own = _fields(row)
    alike = {n: sum(map(str.__eq__, own, _fields(placed.row))) for n, placed in left.items()}
    near = [n for n, placed in left.items() if placed.row.video == row.video or alike[n] >= _ALIKE]
    return left[max(near, key=lambda n: (left[n].row.video == row.video, alike[n]))] if near else None


def _fields(row: Row) -> tuple[str, ...]:
    return row.category, row.video, str(row.start), str(row.end)


def _left(
    path: Path, left: list[Placed], used: Mapping[Row, Placed], sets: Mapping[str, AveFile]
) -> tuple[list[Finding], list[Finding]]:
    """Findings on rows of Annotations.txt that are there twice, and on those that are in no Set file."""
    broken = [fields for file in sets.values() for fields in file.broken]
    twice, nowhere = [], []
    for placed in sorted(left, key=lambda placed: placed.number):
        done = f"row left out: {placed.row}"
        if placed.row in used:
            what = f"the row of {used[placed.row].where} once more"
            twice.append(Finding("duplicate-row", placed.where, what, done))
        elif not _absorbed(placed.row, broken):
            what = f"row {placed.number} is in none of the Set files"
            nowhere.append(Finding("no-split", placed.where, what, done))
    return twice, nowhere


def _nowhere(path: Path, findings: list[Finding], sets: Mapping[str, AveFile]) -> list[Finding]:
    """Findings on rows that are in no Set file, without those that follow from a Set file that has no row."""
    if not all(file.there for file in sets.values()):
        return []  # one of which nothing could be read would name them
    empty = [path.with_name(f"{split}Set.txt") for split, file in sets.items() if not file.count]
    if len(findings) <= 1 or not empty:
        return findings
    what = f"the file is empty, and {len(findings)} rows of {path.name} are in none of the Set files"
    return [Finding("empty-table", str(file), what, "rows left out") for file in empty]


def _absorbed(row: Row, broken: list[tuple[str, ...]]) -> bool:
    """Whether a broken line is a copy of the row; then it is taken out of `broken`, so that it stands for one only."""
    own = _fields(row)
    for fields in sorted(broken, key=lambda fields: row.video not in fields):
        rest = list(fields)
        for field in own:
            if field in rest:
                rest.remove(field)
        if len(fields) - len(rest) >= (_ALIKE_OF_VIDEO if row.video in fields else _ALIKE):
            broken.remove(fields)
            return True
    return False
