"""The check of one dataset, from its annotations to the last byte of its files. It writes nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import own
from avpipe.pipeline.datasets.avsbench_common import FRAMES_FROM_VIDEO, SOUND_FROM_VIDEO
from avpipe.pipeline.datasets.check.absent import absences
from avpipe.pipeline.datasets.check.counts import Count, count, fewer_made, wrong_counts
from avpipe.pipeline.datasets.check.duplicates import duplicates, shared_media
from avpipe.pipeline.datasets.check.folders import FILE, Folders
from avpipe.pipeline.datasets.check.leakage import Leakage, leakage, leaks
from avpipe.pipeline.datasets.check.lengths import gaps, lengths
from avpipe.pipeline.datasets.check.look import AUDIO, MASK, PICTURE
from avpipe.pipeline.datasets.check.looking import Lookout, Seen
from avpipe.pipeline.datasets.check.masks import formats, sizes, strange_values
from avpipe.pipeline.datasets.check.report import Report
from avpipe.pipeline.datasets.check.rows import TableRows, left_out
from avpipe.pipeline.datasets.check.strays import strays
from avpipe.pipeline.datasets.check.sums import wrong_sums
from avpipe.pipeline.datasets.check.wanted import Wanted, wanted_files
from avpipe.pipeline.datasets.overrides import read_overrides
from avpipe.pipeline.datasets.registry import find, load_dataset, locate, manifest_of, names
from avpipe.pipeline.errors import UnusableAnnotations, UsageError
from avpipe.pipeline.findings import NO_TABLE, Finding
from avpipe.pipeline.manifest import Dataset


@dataclass(frozen=True)
class Request:
    """One dataset to check: arguments of `load_dataset`."""

    name: str
    root: Path | None = None
    task: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def requests(name: str | None, root: Path | None, task: str | None, options: Mapping[str, str]) -> list[Request]:
    """What is to be checked: one dataset, or every one that is found; a dataset of subsets subset by subset.

    Raises:
        UsageError: the dataset is not known or not there; or none is found.
    """
    if name is not None and own.is_own(name):
        return [Request(name, root, task, options)]
    if name is not None:
        locate(name, root)
    found = [other for other in names() if find(other, root) is not None] if name is None else [name]
    if not found:
        where = f"in {root}" if root else "below $AVPIPE_DATA and data/"
        raise UsageError(f"no dataset found {where}: `avpipe data ls` says where each is looked for")
    singles = [single for other in found for single in _subsets(other, root)]
    return [Request(single, root, task, options) for single in dict.fromkeys(singles)]


def _subsets(name: str, root: Path | None) -> list[str]:
    subsets = [other for other in names() if other.startswith(f"{name}-") and find(other, root) is not None]
    return subsets or [name]


def check(request: Request, lookout: Lookout) -> Report:
    """Checks one dataset.

    Args:
        request: which one.
        lookout: looks at its files.

    Returns:
        What was found. Annotations that cannot be read at all are a finding, too.

    Raises:
        UsageError: the dataset is not there, or the request has options or a task that do not go with it.
    """
    began = time.perf_counter()
    try:
        dataset = load_dataset(request.name, request.root, task=request.task, options=request.options)
    except UnusableAnnotations as error:
        return _unreadable(request, error, time.perf_counter() - began)
    folders, rows = Folders(), TableRows(dataset)
    wanted = wanted_files(dataset, rows.left_out_for_media())
    missing, misplaced = absences(dataset, wanted, folders)
    there = {path: one.role for path, one in wanted.items() if folders.kind(path) == FILE}
    with progress.task(f"check {dataset.name}", total=len(there), unit="files") as task:
        seen = lookout.look(there, task)
    of_files = [
        *missing,
        *(Finding(look.kind, str(path), look.what) for path, look in seen.items() if look.kind),
    ]
    sums = [] if lookout.quick else list(wrong_sums(dataset, {finding.where for finding in missing}, rows))
    shared = leakage(dataset)
    findings = [
        *rows.told_once(
            _of_annotations(dataset, wanted, missing), of_files, _beside_others(dataset, wanted, folders, seen)
        ),
        *sums,
        *_strays(dataset, wanted, folders, misplaced, rows.paths),
        *(leaks(dataset, shared) if own.is_own(dataset.name) else ()),
    ]
    record, official = _expected(dataset)
    counts = count(dataset, sum(role == MASK for role in there.values()), official)
    return Report(
        name=dataset.name,
        root=dataset.root,
        demo=record is not None,
        counts=tuple(counts),
        findings=(*findings, *_of_counts(dataset, counts, record)),
        leakage=shared,
        files=len(there),
        seconds=time.perf_counter() - began,
    )


def _beside_others(dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders, seen: Seen) -> Sequence[Finding]:
    strange = list(strange_values(dataset, wanted, seen))
    return [
        *lengths(dataset, wanted, seen),
        *gaps(dataset, wanted, folders),
        *strange,
        *sizes(dataset, seen),
        *formats(seen, {finding.where for finding in strange}),
        *duplicates(wanted, seen),
        *shared_media(dataset),
    ]


def _of_annotations(dataset: Dataset, wanted: Mapping[Path, Wanted], missing: Sequence[Finding]) -> Sequence[Finding]:
    """The adapter's findings, without those that only count what is named here file by file."""
    named = {"missing-masks"} if dataset.mask_files else set()
    absent = {finding.where for finding in missing}
    for kind, role in ((FRAMES_FROM_VIDEO, PICTURE), (SOUND_FROM_VIDEO, AUDIO)):
        files = (path for path, one in wanted.items() if one.spare and one.role == role)
        if any(not absent.isdisjoint(map(str, (path, *path.parents))) for path in files):
            named.add(kind)
    return [finding for finding in dataset.findings if finding.kind not in named]


def _strays(
    dataset: Dataset,
    wanted: Mapping[Path, Wanted],
    folders: Folders,
    misplaced: Sequence[Path],
    named: Collection[str],
) -> Sequence[Finding]:
    if any(finding.kind in NO_TABLE for finding in dataset.findings):
        return []  # it would have named files
    return strays(dataset, wanted, folders, left_out(dataset), misplaced, named)


def _expected(dataset: Dataset) -> tuple[dict[str, Any] | None, Mapping[str, Any]]:
    """The record of demo data, None where it is none; and the counts that should come out."""
    if own.is_own(dataset.name):
        return None, {}
    record = read_overrides(dataset.root).get("demo", {}).get(dataset.name)
    if record is not None:
        return record, {"clips": record.get("clips")}
    manifest = manifest_of(dataset.name)
    return None, manifest.get("releases", {}).get(dataset.options.get("release", ""), manifest.get("counts", {}))


def _of_counts(dataset: Dataset, counts: Sequence[Count], record: dict[str, Any] | None) -> list[Finding]:
    if record is None:
        return wrong_counts(dataset, list(counts))
    return fewer_made(dataset, counts[0])


def _unreadable(request: Request, error: UnusableAnnotations, seconds: float) -> Report:
    """The report on annotations that cannot be read."""
    file = Path(request.root or ".") / request.name
    root = file.parent if own.is_own(request.name) else locate(request.name, request.root)
    finding = Finding("unusable", error.where, " ".join(error.what.split()), "nothing of it can be used")
    return Report(request.name, root, False, (), (finding,), Leakage(0), 0, seconds)
