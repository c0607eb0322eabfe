"""The check of one dataset, from its annotations to the last byte of its files. It writes nothing."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import own
from avpipe.pipeline.datasets.check.absent import absences
from avpipe.pipeline.datasets.check.counts import Count, count, wrong_counts
from avpipe.pipeline.datasets.check.duplicates import duplicates, shared_media
from avpipe.pipeline.datasets.check.folders import FILE, Folders
from avpipe.pipeline.datasets.check.leakage import Leakage, leakage
from avpipe.pipeline.datasets.check.lengths import gaps, lengths
from avpipe.pipeline.datasets.check.look import MASK, PICTURE
from avpipe.pipeline.datasets.check.looking import Lookout, Seen
from avpipe.pipeline.datasets.check.masks import formats, sizes, strange_values
from avpipe.pipeline.datasets.check.report import Report
from avpipe.pipeline.datasets.check.strays import strays
from avpipe.pipeline.datasets.check.wanted import Wanted, wanted_files
from avpipe.pipeline.datasets.overrides import read_overrides
from avpipe.pipeline.datasets.registry import find, load_dataset, locate, manifest_of, names
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Dataset

_LARGEST_TABLE = 256 << 20


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
        UsageError: the dataset is not there.
    """
    began = time.perf_counter()
    try:
        dataset = load_dataset(request.name, request.root, task=request.task, options=request.options)
    except UsageError as error:
        return _unreadable(request, error, time.perf_counter() - began)
    folders, wanted = Folders(), wanted_files(dataset)
    missing, misplaced = absences(dataset, wanted, folders)
    told = "\n".join(finding.what for finding in dataset.findings if finding.kind == "missing-file")
    missing = [finding for finding in missing if finding.where not in told]  # a table's rows name their files
    there = {path: one.role for path, one in wanted.items() if folders.kind(path) == FILE}
    with progress.task(f"check {dataset.name}", total=len(there), unit="files") as task:
        seen = lookout.look(there, task)
    findings = [
        *_of_annotations(dataset, wanted, missing),
        *missing,
        *(Finding(look.kind, str(path), look.what) for path, look in seen.items() if look.kind),
        *_beside_others(dataset, wanted, folders, seen),
        *_strays(dataset, wanted, folders, misplaced),
    ]
    record, official = _expected(dataset)
    counts = count(dataset, sum(role == MASK for role in there.values()), official)
    return Report(
        name=dataset.name,
        root=dataset.root,
        demo=record is not None,
        counts=tuple(counts),
        findings=(*findings, *_of_counts(dataset, counts, record)),
        leakage=leakage(dataset),
        files=len(there),
        seconds=time.perf_counter() - began,
    )


def _beside_others(dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders, seen: Seen) -> Sequence[Finding]:
    return [
        *lengths(dataset, wanted, seen),
        *gaps(dataset, wanted, folders),
        *strange_values(dataset, wanted, seen),
        *sizes(dataset, seen),
        *formats(seen),
        *duplicates(wanted, seen),
        *shared_media(dataset),
    ]


def _of_annotations(dataset: Dataset, wanted: Mapping[Path, Wanted], missing: Sequence[Finding]) -> Sequence[Finding]:
    """The adapter's findings, without those that only count what is named here file by file."""
    named = {"missing-masks"} if dataset.mask_files else set()
    absent = {finding.where for finding in missing}
    pictures = (path for path, one in wanted.items() if one.spare and one.role == PICTURE)
    if any(not absent.isdisjoint(map(str, (path, *path.parents))) for path in pictures):
        named.add("from-video")
    return [finding for finding in dataset.findings if finding.kind not in named]


def _strays(
    dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders, misplaced: Sequence[Path]
) -> Sequence[Finding]:
    if any(finding.kind == "missing-table" for finding in dataset.findings):
        return []  # it would have named files
    return strays(dataset, wanted, folders, _rows(dataset), misplaced)


def _rows(dataset: Dataset) -> str:
    """Text of the annotation files in which something was found: what they name is no stray."""
    texts = [finding.done for finding in dataset.findings]
    for path in {Path(finding.where.partition(" line ")[0].partition(" row ")[0]) for finding in dataset.findings}:
        if path.is_file() and path.stat().st_size < _LARGEST_TABLE:
            data = path.read_bytes()
            texts.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace"))
    return "\n".join(texts)


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
    clips = counts[0]
    left_out = sum("left out" in finding.done for finding in dataset.findings)
    if clips.official is None or clips.found >= clips.official - left_out:
        return []
    if any(finding.kind == "missing-table" for finding in dataset.findings):
        return []
    return [Finding("count", str(dataset.root), f"{clips.found} clips, {clips.official} were made")]


def _unreadable(request: Request, error: UsageError, seconds: float) -> Report:
    """The report on annotations that cannot be read; raises the error again where there is nothing to report on."""
    if own.is_own(request.name):
        root = Path(request.root or ".") / request.name
        if not root.is_file():
            raise error
        root = root.parent
    else:
        root = locate(request.name, request.root)
    message = " ".join(str(error).split())
    finding = Finding("unusable", _file_in(message, root), message, "nothing of it can be used")
    return Report(request.name, root, False, (), (finding,), Leakage(0), 0, seconds)


def _file_in(message: str, root: Path) -> str:
    """The file below the root that a message names, else the root."""
    start = message.find(str(root))
    words = message[start:].split(" ") if start >= 0 else []
    names = (" ".join(words[:count]).rstrip(":,;") for count in range(1, len(words) + 1))
    return next((name for name in names if Path(name).is_file()), str(root))
