"""LLP's tables against each other: dense labels of no video, and weak labels that differ from the dense ones."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from avpipe.pipeline.datasets.llp_dense import Dense, DenseRow
from avpipe.pipeline.datasets.llp_weak import WeakLabels
from avpipe.pipeline.datasets.text import at_line, gather
from avpipe.pipeline.findings import NOTE, Finding

_ALIKE = 0.8
"""How alike two names are (difflib's ratio) where one may be a slip for the other."""


def told(weak: WeakLabels, tables: Sequence[Dense], manifest: Mapping[str, Any]) -> list[Finding]:
    """Findings on the rows of the dense tables, those that name no video among them.

    Names that the official files have are notes, others faults. Rows of a video whose own row was left out say
    nothing new, so they are not named.
    """
    known = frozenset(manifest["known_rows"]["unmatched"])
    first = frozenset(manifest["first_release_rows"])
    explained = _explained(weak, tables, known | first)
    findings = []
    for table in tables:
        orphans = [row for row in table.orphans if row.name not in explained]
        strange = [row for row in orphans if row.name not in known | first]
        about = []
        if weak.missing and strange:
            what = f"{len(strange)} rows name no video, as there is no {' and no '.join(weak.missing)} split"
            about.append(Finding("unmatched-row", str(table.path), what, "rows left out", NOTE))
            orphans = [row for row in orphans if row.name in known | first]
        about += [_orphan(table, row, known, first, manifest["classes"]) for row in orphans]
        findings += gather([*table.findings, *about], table.path, table.count)
    return findings


def _explained(weak: WeakLabels, tables: Sequence[Dense], known: Collection[str]) -> set[str]:
    """Names of no video that belong to a weak row that was left out: by their name, or by their classes alone."""
    classes: dict[str, set[int]] = defaultdict(set)
    for table in tables:
        for row in table.orphans:
            classes[row.name].add(row.event.class_id)
    nameless = list(weak.nameless)
    explained = set()
    for name in classes.keys() - known:
        if difflib.get_close_matches(name, weak.left_out, 1, _ALIKE):
            explained.add(name)
        elif classes[name] in nameless:
            nameless.remove(classes[name])
            explained.add(name)
    return explained


def _orphan(
    table: Dense, row: DenseRow, known: Collection[str], first: Collection[str], classes: Sequence[str]
) -> Finding:
    event = row.event
    text = f"{row.name} {event.start} {event.end} {classes[event.class_id]}"
    what, done, level = f"{row.name!r} names no video", f"row left out: {text!r}", "fault"
    if row.name in known:
        done, level = f"{done} (so in the official file, and left out there)", NOTE
    if row.name in first:
        done = f"{done} (the first release of this file: get the corrected one, which other results are on)"
    return Finding("unmatched-row", at_line(table.path, row.line), what, done, level)


def differences(weak: WeakLabels, tables: Sequence[Dense], manifest: Mapping[str, Any]) -> list[Finding]:
    """Videos whose weak label is not the union of their dense labels, of both modalities.

    What a row that was left out may have said is no difference.
    """
    classes = manifest["classes"]
    lost: set[str] = set().union(*(table.lost for table in tables))
    known = manifest["known_rows"]["unmatched"]
    lost |= {classes[row.event.class_id] for table in tables for row in table.orphans if row.name not in known}
    findings = []
    for row in weak.rows.values():
        if row.split == "train" or row.name in lost:
            continue
        union = {event.class_id for table in tables for event in table.events.get(row.name, ())}
        differing = {classes[label] for label in union ^ set(row.labels)}
        if not union and not lost:
            findings.append(Finding("no-events", row.where, f"{row.name} is in no table of dense labels", "no events"))
        elif differing - lost:
            words = " and ".join(",".join(classes[i] for i in sorted(ids)) for ids in (set(row.labels), union))
            what = f"weak and dense labels of {row.name} differ: {words}"
            done = "each is used for what it is, as in the official protocol"
            findings.append(Finding("weak-differs", row.where, what, done, NOTE))
    return findings
